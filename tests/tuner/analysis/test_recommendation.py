"""What is recommended: a compromise only if it costs little, the default where nothing is better."""

from pathlib import Path

import pytest

from tests.tuner.confirm.test_rounds import CONFIG as RACED
from tests.tuner.confirm.test_rounds import play
from tests.tuner.samples.landscape import landscape, result_of
from tuner.analysis.recommendation import beats_default, compromise, no_better
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point
from tuner.confirm.results import remeasured
from tuner.results.ledger import Finished, Ledger, read, searched
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.result import Measured

CONFIG = landscape(SearchConfig(kind="random", trials=3))
THREADS, BATCH = "engine.llamacpp.threads", "engine.llamacpp.batch_size"


def trials(folder: Path, *points: Point) -> list[Finished]:
    with Ledger.open(folder) as ledger:
        for number, point in enumerate(points):
            ledger.finished(number, point, Measured(result_of(CONFIG, point), {}))
        return ledger.results()


def winners(entries: list[Finished]) -> dict[str, Winner]:
    best = best_per_tier(CONFIG.slo, CONFIG.objective, [entry.result for entry in entries])
    return {tier: each for tier, each in best.items() if isinstance(each, Winner)}


@pytest.mark.parametrize(
    ("shares", "chosen"),
    [
        ([{"a": 1.0, "b": 0.12}, {"a": 0.3, "b": 1.0}], None),  # nobody's choice
        ([{"a": 1.0, "b": 0.79}, {"a": 0.85, "b": 0.9}], 1),
        ([{"a": 0.8, "b": 0.8}, {"a": 1.0, "b": 0.81}], 1),
        ([{}], None),
        ([], None),
    ],
)
def test_a_compromise_keeps_most_of_every_tier(
    shares: list[dict[str, float]], chosen: int | None
) -> None:
    assert compromise(shares) == chosen


def test_a_gain_within_the_noise_is_none(tmp_path: Path) -> None:
    """5 % better, measured once, where a start may be off by 3 %."""
    entries = trials(tmp_path, {}, {BATCH: 512})
    found = no_better(CONFIG, entries, winners(entries), {})["bulk"]
    assert (found.default, found.remeasured) == (0, False)
    assert found.least is not None
    assert 0.05 < found.least < 0.2


def test_a_gain_beyond_the_noise_is_one(tmp_path: Path) -> None:
    entries = trials(tmp_path, {}, {THREADS: 4})
    assert no_better(CONFIG, entries, winners(entries), {}) == {}


def test_without_a_default_there_is_nothing_to_compare(tmp_path: Path) -> None:
    entries = trials(tmp_path, {BATCH: 512}, {BATCH: 1024})
    assert no_better(CONFIG, entries, winners(entries), {}) == {}


def test_races_decide_where_there_were_some(tmp_path: Path) -> None:
    play(tmp_path)
    lines = read(tmp_path)
    entries = [e for e in searched(lines) if e.result.status == "completed"]
    tiers = {tier.tier: tier for tier in remeasured(RACED, lines)}
    results = [entry.result for entry in entries]
    best = best_per_tier(RACED.slo, RACED.objective, results)
    won = {name: each for name, each in best.items() if isinstance(each, Winner)}
    found = no_better(RACED, entries, won, tiers)
    for name, tier in tiers.items():
        assert tier.chosen is not None
        assert (name in found) is not beats_default(tier, tier.chosen)
        if name in found:
            assert entries[found[name].default].is_default
            assert found[name].remeasured
