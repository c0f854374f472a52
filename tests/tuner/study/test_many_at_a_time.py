"""Many trials at a time: the study's own time between them is short against theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner.samples.virtual_cluster import run, whole_nodes
from tuner.search.curve import sampler
from tuner.search.curve.sampler import RUNNING_PER_PICK, CurveSampler

RANKING_S, ASK_S = 2.0, 0.02  # the most that a ranking may take, and any other call
NODES, TRIALS = 64, 192


class CountedClock:
    """Seconds by what was called, so that they do not depend on the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.rankings = 0.0, 0
        self._ranked: Callable[..., object] = CurveSampler._by_acquisition
        monkeypatch.setattr(sampler.CurveSampler, "_by_acquisition", self._counted())

    def _counted(self) -> Callable[..., object]:
        def ranked(*given: object) -> object:
            self.seconds += RANKING_S
            self.rankings += 1
            return self._ranked(*given)

        return ranked

    def __call__(self) -> float:
        self.seconds += ASK_S
        return self.seconds


@pytest.mark.thorough
def test_the_devices_are_busy_while_the_search_has_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = CountedClock(monkeypatch)
    use = run(whole_nodes(TRIALS), tmp_path, NODES, clock)
    assert use.trials == TRIALS
    assert use.at_once == NODES
    assert use.busy >= 0.99
    assert 0 < clock.rankings <= 2 * (TRIALS - NODES) / (NODES / RUNNING_PER_PICK)
