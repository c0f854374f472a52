"""What makes the responses of a level doubtful: usage that can't be true, unknown fields, prefix hits. Pure."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from loadgen.results.arrays import LevelArrays
from loadgen.results.records import SEPARATOR

DOUBT_SHARE = 0.01  # of the measured responses, and less is a note
_HIT_SHARE = 0.05  # of the prompt tokens, beyond those that the workload asks for
_WHOLE_SHARE = 0.9


def doubt_reasons(arrays: LevelArrays) -> list[str]:
    """Why the figures of a level are doubtful, most frequent first; empty if they are not."""
    counted, measured = _doubts(arrays), int(np.count_nonzero(arrays.measured))
    found = [
        f"in {count} of {measured} responses {text}"
        for text, count in counted.most_common()
        if count >= DOUBT_SHARE * measured
    ]
    return [*found, *_prefix_reasons(arrays)]


def oddities(arrays: LevelArrays) -> dict[str, int]:
    """What was unusual in the responses of the level, with the number of responses; rare doubts with it."""
    records, measured = arrays.records, int(np.count_nonzero(arrays.measured))
    found = _counted(records.oddity, records.oddities)
    rare = {t: n for t, n in _doubts(arrays).items() if n < DOUBT_SHARE * measured}
    return dict(found.most_common()) | rare


def _doubts(arrays: LevelArrays) -> Counter[str]:
    return _counted(arrays.records.doubt[arrays.measured], arrays.records.doubts)


def _counted(codes: NDArray[np.int32], texts: tuple[str, ...]) -> Counter[str]:
    counted = Counter[str]()
    for code, count in enumerate(np.bincount(codes, minlength=len(texts)).tolist()):
        for text in texts[code].split(SEPARATOR):
            if text and count:
                counted[text] += count
    return counted


def _prefix_reasons(arrays: LevelArrays) -> list[str]:
    """Prefix hits that the workload does not ask for, where the server reports hits."""
    level, records = arrays.level, arrays.records
    if level.asked_hit_share is None:
        return []
    told = arrays.measured & (records.cached_tokens >= 0) & (records.input_tokens > 0)
    prompts, cached = int(records.input_tokens[told].sum()), int(records.cached_tokens[told].sum())
    common = level.template_tokens * int(np.count_nonzero(told))
    asked = level.asked_hit_share * prompts + _HIT_SHARE * prompts
    # A chat template is the same to every prompt, but never nearly all of it.
    if cached <= max(asked, min(asked + common, _WHOLE_SHARE * prompts)):
        return []
    return [
        f"the server had {cached / prompts:.0%} of the prompt tokens in its prefix cache,"
        f" and the workload asks for {level.asked_hit_share:.0%}: these prompts were sent to it before"
    ]
