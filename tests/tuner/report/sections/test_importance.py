"""What the report says of the fewest changes that were measured."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tuner.samples.points import completed, point
from tuner.analysis.effects.ablation import MeasuredChanges
from tuner.analysis.effects.knob_effects import TierEffects
from tuner.analysis.effects.reverted import Interval
from tuner.report.sections.importance import measured_text
from tuner.results.entry import Finished

PATH = "topology.tensor_parallel"
TIER = TierEffects("premium", best={PATH: 2})


@pytest.mark.parametrize(
    ("keeps", "said"),
    [
        (
            Interval(0.93, 0.98, 1.03),
            "premium: what to change, confirmed: topology.tensor_parallel=2. They keep 98% (93% to 103%) of "
            "the gain (trial 9, one start).",
        ),
        (
            Interval(0.4, 0.5, 0.6),
            "premium: topology.tensor_parallel=2 alone keep only 50% (40% to 60%) of the gain (trial 9, one "
            "start): all changes are needed.",
        ),
        (
            Interval(2.51, 2.67, 2.83),
            "premium: what to change: topology.tensor_parallel=2 alone, which do better than all changes "
            "together: they have 267% (251% to 283%) of the gain (trial 9, one start). No race has tried them: "
            "add them to search.points.",
        ),
    ],
)
def test_the_fewest_changes_are_enough_too_few_or_better(keeps: Interval, said: str) -> None:
    entry = Finished(9, {PATH: 2}, "f", completed(point()), Path(), datetime.now(UTC))
    assert measured_text(TIER, MeasuredChanges(entry, (PATH,), keeps)) == said
