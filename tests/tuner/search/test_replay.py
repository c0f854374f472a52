"""The replay of searches: its score, its failures, its costs and its priors, on small landscapes."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.search.landscapes import Landscape, hypervolume
from tests.benchmarks.search.methods import METHODS, Oracle, parsed
from tests.benchmarks.search.priors import NEAR, distorted, ordered_right
from tests.benchmarks.search.replay import LEVEL_S, Bench, Outcome, front_of, greedy, replay
from tuner.config.groups.space import Space
from tuner.search.space import SearchSpace

LOADS = np.array([1.0, 4.0, 16.0, 64.0])
ENGINES = ("vllm", "sglang", "trtllm")
PARAMETERS = Space.model_validate(
    {
        "parameters": {
            "topology.tensor_parallel": {"type": "categorical", "choices": (1, 2, 4, 8)},
            "model.weights": {"type": "categorical", "choices": ("bf16", "fp8", "nvfp4")},
            "knobs.step_tokens": {"type": "categorical", "choices": (2048, 8192)},
        }
    }
)
SPACE = SearchSpace(PARAMETERS, ENGINES)


def small(seed: int = 0, dead: float = 0.2) -> Landscape:
    """72 configurations: faster with more GPUs, more throughput with fewer."""
    rng = np.random.default_rng(seed)
    points = tuple(SPACE.enumerate_points())
    gpus = np.array([float(point["topology.tensor_parallel"]) for point in points])
    factor = np.exp(0.4 * rng.standard_normal(len(points)))
    itv = 100 * (factor * gpus**0.5)[:, None] / (1 + LOADS / 8)
    thr = itv * LOADS / gpus[:, None]
    gone = rng.random(len(points)) < dead
    nothing = np.where(gone, np.nan, 1.0)[:, None]
    ttft_s = np.broadcast_to(LOADS / 10, itv.shape) * nothing
    return Landscape(
        "small",
        SPACE,
        points,
        LOADS,
        thr * nothing,
        itv * nothing,
        ttft_s,
        ok=np.isfinite(thr * nothing),
        dead=gone,
        why=tuple("OutOfMemory: none left" if each else "" for each in gone),
        gpus=gpus,
        start_s=60 + 10 * gpus,
    )


class Listed:
    """Asks for these rows, and remembers the outcomes."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = list(rows)
        self.outcomes: list[tuple[int, Outcome]] = []

    def ask(self) -> int:
        return self._rows.pop(0)

    def tell(self, index: int, outcome: Outcome) -> None:
        self.outcomes.append((index, outcome))


def union(points: np.ndarray) -> float:
    """The area below and left of any of the points, cell by cell of the grid that they span."""
    xs, ys = (np.unique(np.concatenate(([0.0], points[:, axis]))) for axis in (0, 1))
    covered = (points[:, None, None, 0] >= xs[1:, None]) & (points[:, None, None, 1] >= ys[1:])
    return float((covered.any(axis=0) * np.diff(xs)[:, None] * np.diff(ys)).sum())


coordinate = st.floats(0.01, 100)


@given(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12))
def test_the_hypervolume_is_the_area_of_the_union(points: list[tuple[float, float]]) -> None:
    array = np.array(points)
    assert hypervolume(array) == pytest.approx(union(array))
    assert hypervolume(front_of(array)) == pytest.approx(union(array))


def test_the_oracle_takes_what_adds_most_each_time() -> None:
    land = small()
    chosen = greedy(land, 4)
    alive = np.flatnonzero(~land.dead).tolist()
    for count in range(1, 5):
        before = chosen[: count - 1]
        areas = [union(land.curves([*before, row])) for row in alive]
        assert union(land.curves(chosen[:count])) == pytest.approx(max(areas))
    pairs = combinations(alive, 2)
    best = max(union(land.curves(pair)) for pair in pairs)
    assert union(land.curves(chosen[:2])) >= (1 - np.exp(-1)) * best  # what greed is good for


def test_the_score_sees_no_noise() -> None:
    land = small()
    rows = np.flatnonzero(~land.dead)[:10].tolist()
    shares = [
        replay(land, Listed(rows), 3, 10, bench=Bench(land, 3, noise=noise, flake=0.0)).shares
        for noise in (0.0, 0.5)
    ]
    assert shares[0] == shares[1]
    assert shares[0][-1] == pytest.approx(union(land.curves(rows)) / union(land.curves(range(72))))
    assert list(shares[0]) == sorted(shares[0])


def test_noise_has_the_stated_size_and_is_the_same_for_all() -> None:
    land = small(dead=0.0)
    listed, again = Listed(range(72)), Listed(range(71, -1, -1))
    replay(land, listed, 5, 72, bench=Bench(land, 5, flake=0.0))
    replay(land, again, 5, 72, bench=Bench(land, 5, flake=0.0))
    logs = np.concatenate([np.log(out.thr / land.thr[row]) for row, out in listed.outcomes])
    assert np.std(logs) == pytest.approx(0.03, rel=0.15)
    assert all(
        np.array_equal(one.thr, other.thr)
        for (_, one), (_, other) in zip(listed.outcomes, reversed(again.outcomes), strict=True)
    )


def test_a_flake_counts_and_shows_no_values() -> None:
    land = small(dead=0.0)
    listed = Listed(range(20))
    run = replay(land, listed, 0, 20, bench=Bench(land, 0, flake=1.0))
    assert run.shares == (0.0,) * 20
    for _, outcome in listed.outcomes:
        assert outcome.status == "flake"
        assert not outcome.counted.any()
        assert np.isnan([outcome.thr, outcome.itv, outcome.ttft_s]).all()
    oracle = Oracle(land)
    first = oracle.ask()
    oracle.tell(first, listed.outcomes[0][1])
    assert oracle.ask() == first


def test_flakes_have_the_stated_rate_and_are_not_the_dead() -> None:
    land = small()
    rows = [*range(72)] * 20
    listed = Listed(rows)
    replay(land, listed, 1, len(rows))
    status = [outcome.status for _, outcome in listed.outcomes]
    assert status.count("flake") / len(rows) == pytest.approx(0.08, abs=0.02)
    assert {row for row, out in listed.outcomes if out.status == "dead"} == set(
        np.flatnonzero(land.dead)
    )
    assert all(
        out.why.startswith("OutOfMemory") for _, out in listed.outcomes if out.status == "dead"
    )


def test_costs_are_gpu_hours() -> None:
    land = small()
    alive, dead = int(np.flatnonzero(~land.dead)[0]), int(np.flatnonzero(land.dead)[0])
    run = replay(land, Listed([alive, dead]), 0, 2, bench=Bench(land, 0, flake=0.0))
    hours = [
        land.gpus[alive] * (land.start_s[alive] + 4 * LEVEL_S) / 3600,
        land.gpus[dead] * land.start_s[dead] / 3600,
    ]
    assert run.gpu_hours == pytest.approx(np.cumsum(hours))
    assert run.trials_to(run.shares[0]) == 1
    assert run.gpu_hours_to(run.shares[0]) == pytest.approx(hours[0])
    assert run.trials_to(1.1) is None


def test_several_at_once_end_in_their_own_order() -> None:
    land = small()
    one, four = Listed(range(40)), Listed(range(40))
    replay(land, one, 2, 40)
    run = replay(land, four, 2, 40, batch=4)
    assert [row for row, _ in one.outcomes] == list(range(40))
    ended = [row for row, _ in four.outcomes]
    assert ended != sorted(ended)
    assert sorted(ended) == list(range(40))
    assert max(row - ended.index(row) for row in ended) <= 3  # none ends before it was asked for
    again = replay(land, Listed(range(40)), 2, 40, batch=4)
    assert (run.rows, run.shares) == (again.rows, again.shares)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_ask_for_rows_and_are_seeded(name: str) -> None:
    land = small()
    factory, _, _ = parsed(name)
    runs = [replay(land, factory(land, 4, 2, None), 4, 12, batch=2) for _ in range(2)]
    assert runs[0].rows == runs[1].rows
    assert all(0 <= row < len(land) for row in runs[0].rows)


def test_optuna_asks_for_no_row_twice() -> None:
    land = small(dead=0.0)
    method = parsed("optuna-tpe")[0](land, 0, 1, None)
    run = replay(land, method, 0, 72, bench=Bench(land, 0, flake=0.0))
    assert sorted(run.rows) == list(range(72))
    assert run.shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("target", [0.8, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_prior_orders_as_many_pairs_as_asked_for(target: float, seed: int) -> None:
    land = small(seed=3)
    prior = distorted(land, seed, target)
    assert prior.pairs == pytest.approx(target, abs=0.02)
    assert ordered_right(land, prior) == pytest.approx(target, abs=0.04)
    assert np.isnan(prior.thr[land.dead]).all()
    assert np.isfinite(prior.thr[~land.dead]).all()
    assert np.nanmedian(np.abs(prior.itv / land.itv - 1)) > NEAR


def test_specs_of_methods_are_read() -> None:
    assert parsed("random+prior80x4")[1:] == (0.8, 4)
    assert parsed("random")[1:] == (None, 1)
    with pytest.raises(ValueError, match="no method 'tpe'; there are"):
        parsed("tpe")
    with pytest.raises(ValueError, match="no prior 'prior7'; there are"):
        parsed("random+prior7")
