"""How far two sets of greedy answers to the same prompts differ. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from scipy.stats import beta

from tuner.trial.quality.answers import Answer

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Comparison:
    """`positions`: tokens that both chose after the same context; `flips`: those that differ, at most one an
    answer, because after it the contexts differ.

    `drift_nats`: mean absolute difference of the log-probabilities of equal tokens; None: not reported.
    `margin_nats`: median over the flips of how far the first set's token was above its second best.
    """

    positions: int
    flips: int
    drift_nats: float | None
    margin_nats: float | None

    @property
    def disagreement(self) -> float:
        """The chance that a token differs, given the same context: flips a position; 0 without positions."""
        return self.flips / self.positions if self.positions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Of the disagreement, at 95 %, exact (Clopper and Pearson, Biometrika 26, 1934)."""
        return exact_interval(self.flips, self.positions)


def exact_interval(hits: int, trials: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share at `CONFIDENCE`."""
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def compare(first: Sequence[Answer], second: Sequence[Answer]) -> Comparison:
    """Answer by answer, as far as their contexts are the same. Raises ValueError for unequal numbers."""
    positions, flips = 0, 0
    drifts, margins = list[float](), list[float]()
    for one, other in zip(first, second, strict=True):
        same = _common(one, other)
        flipped = _flipped(one, other, same)
        flips += flipped
        positions += same + (flipped or _both_end(one, other, same))
        drifts += [
            abs(a - b) for a, b in zip(one.logprobs[:same], other.logprobs[:same], strict=False)
        ]
        if flipped and same < len(one.margins) and (margin := one.margins[same]) is not None:
            margins.append(margin)
    return Comparison(
        positions,
        flips,
        fmean(drifts) if drifts else None,
        median(margins) if margins else None,
    )


def _common(one: Answer, other: Answer) -> int:
    pairs = zip(one.tokens, other.tokens, strict=False)
    for place, (a, b) in enumerate(pairs):
        if a != b:
            return place
    return min(len(one.tokens), len(other.tokens))


def _flipped(one: Answer, other: Answer, same: int) -> bool:
    """Whether the next choice differs: another token, or the end of the answer."""
    lengths = len(one.tokens), len(other.tokens)
    if same < min(lengths):
        return True
    if lengths[0] != lengths[1]:
        shorter = one if lengths[0] < lengths[1] else other
        return shorter.ended
    return False


def _both_end(one: Answer, other: Answer, same: int) -> bool:
    """The end of an answer is a choice too."""
    return one.ended and other.ended and len(one.tokens) == len(other.tokens) == same
