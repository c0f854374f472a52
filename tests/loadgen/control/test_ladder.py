"""Adaptive load levels on curves with a known truth."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.control.ladder import Rung, count_meeting, knee_index, next_load
from loadgen.workload.arrivals import Adaptive

Curve = Callable[[float], tuple[float, float]]  # load → throughput, latency


def engine(slots: float, slope_ms: float) -> Curve:
    """Closed loop: step time grows with the batch; above `slots` requests wait."""

    def at(users: float) -> tuple[float, float]:
        batch = min(users, slots)
        tpot_ms = 10 + slope_ms * batch
        return batch / tpot_ms * 1e3, tpot_ms * max(1.0, users / slots)

    return at


def climbed(
    config: Adaptive, curve: Curve, limits: Mapping[str, float], noise: float = 0.0, seed: int = 0
) -> list[Rung]:
    random = np.random.default_rng(seed)
    done: list[Rung] = []
    while (load := next_load(config, done, list(limits))) is not None:
        throughput, latency = curve(load)
        latency *= 1 + noise * random.normal()
        throughput *= 1 + noise / 3 * random.normal()
        done.append(Rung(load, throughput, {n: latency <= v for n, v in limits.items()}))
    return done


def highest_meeting(done: Sequence[Rung], tier: str) -> float | None:
    """The highest load that meets a tier's SLO, as the ladder sees it."""
    rungs = sorted(done, key=lambda rung: rung.load)
    kept = rungs[: count_meeting(rungs, tier)]
    return max((rung.load for rung in kept if rung.meets_slo.get(tier)), default=None)


def knee(config: Adaptive, done: Sequence[Rung]) -> float:
    rungs = sorted(done, key=lambda rung: rung.load)
    return rungs[knee_index(config, rungs)].load


def truth(curve: Curve, limit: float, highest: float) -> float:
    inside = [load for load in range(1, int(highest) + 1) if curve(load)[1] <= limit]
    return float(max(inside, default=0))


LIMITS = {"premium": 12.0, "standard": 25.0, "bulk": 66.0}


@pytest.mark.parametrize("slots", [24, 100, 400])
@pytest.mark.parametrize("slope_ms", [0.05, 0.2, 1.0])
def test_each_tiers_highest_load_is_found(slots: float, slope_ms: float) -> None:
    config = Adaptive(levels=30)
    done = climbed(config, engine(slots, slope_ms), LIMITS)
    for name, limit in LIMITS.items():
        found, true = highest_meeting(done, name), truth(engine(slots, slope_ms), limit, 1024)
        assert found is not None
        assert found <= true <= max(found * config.resolution, found + 1)
    fixed = math.log(1024) / math.log(config.resolution) + 1  # levels of as fine a fixed ladder
    assert len(done) <= 0.55 * fixed


def test_above_the_knee_twice_the_load_gains_no_throughput() -> None:
    curve = engine(slots=64, slope_ms=0.01)
    done = climbed(Adaptive(levels=12), curve, {})
    found = knee(Adaptive(), done)
    assert curve(found)[0] >= curve(1024)[0] / 1.1
    assert curve(found / 1.6)[0] < curve(1024)[0] / 1.1


def test_the_highest_load_is_found_despite_noise() -> None:
    config, curve, limit = Adaptive(levels=12), engine(200, 0.2), 25.0
    true = truth(curve, limit, 1024)
    near = 0
    for seed in range(300):
        found = highest_meeting(climbed(config, curve, {"t": limit}, 0.03, seed), "t") or 0.0
        near += true / config.resolution**2 <= found <= true * config.resolution**2
    assert near >= 0.95 * 300


def test_an_open_loop_stops_where_the_server_saturates() -> None:
    config = Adaptive(loop="poisson", lowest=0.5, highest=1000, levels=20)
    done: list[Rung] = []
    while (load := next_load(config, done, ["t"])) is not None:
        over = load > 37
        done.append(Rung(load, min(load, 37), {"t": not over}, saturated=over))
    found = highest_meeting(done, "t")
    assert found is not None
    assert 37 / config.resolution <= found <= 37
    assert max(rung.load for rung in done) < 37 * 4


unsure = st.one_of(st.none(), st.booleans())


@given(
    st.lists(st.tuples(st.floats(0, 1e4), unsure, unsure, st.booleans()), min_size=40, max_size=40),
    st.sampled_from(["closed", "poisson"]),
    st.integers(1, 12),
    st.floats(1, 50),
    st.floats(50, 2000),
)
def test_for_any_results_it_ends_and_never_repeats_a_load(
    answers: list[tuple[float, bool | None, bool | None, bool]],
    loop: str,
    levels: int,
    lowest: float,
    highest: float,
) -> None:
    config = Adaptive.model_validate(
        {"loop": loop, "levels": levels, "lowest": lowest, "highest": highest}
    )
    done: list[Rung] = []
    while (load := next_load(config, done, ["a", "b"])) is not None:
        assert load not in [rung.load for rung in done]
        assert round(lowest) - 1 <= load <= round(highest) + 1
        throughput, a, b, saturated = answers[len(done)]
        done.append(Rung(load, throughput, {"a": a, "b": b}, saturated))
    assert 1 <= len(done) <= levels
