"""Which level is measured first, and how a caller ends a load before its last level."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loadgen
from loadgen import Adaptive, Closed, Level, Poisson, Trace
from loadgen.control.ladder import Rung, next_load
from loadgen.control.load_plan import listed_loads, plan_of
from loadgen.control.load_plan import next_load as next_level
from loadgen.control.virtual import run_virtual
from loadgen.workload.arrivals import Arrival
from tests.loadgen.control.test_ladder import LIMITS, engine, highest_meeting, knee, truth
from tests.loadgen.control.test_runner import workload as short_workload
from tests.loadgen.control.test_virtual import Station, workload
from tests.loadgen.fake_server import fake_server


@pytest.mark.parametrize(
    ("first", "users"),
    [
        (None, [1, 8, 32, 96]),
        (1.0, [1, 8, 32, 96]),
        (30.0, [32, 1, 8, 96]),
        (17.0, [32, 1, 8, 96]),  # √(8 × 32) = 16
        (15.0, [8, 1, 32, 96]),
        (5000.0, [96, 1, 8, 32]),
    ],
)
def test_the_nearest_load_by_ratio_is_first_then_the_others_as_listed(
    first: float | None, users: list[int]
) -> None:
    load = workload(Closed(concurrency=(1, 8, 32, 96)), level_s=5.0)
    report = run_virtual(Station(200, 0.1), load, vocabulary=1000, first=first)
    assert [level.concurrency for level in report.levels] == users
    assert [level.index for level in report.levels] == [0, 1, 2, 3]
    assert [set(level.records.level.tolist()) for level in report.levels] == [{0}, {1}, {2}, {3}]
    assert report.ended_because == ""


@pytest.mark.parametrize("arrival", [Poisson(rate_per_s=(2, 5, 9)), Closed(concurrency=(2, 5, 9))])
def test_the_arrivals_of_a_level_do_not_depend_on_the_order(arrival: Arrival) -> None:
    load = workload(arrival, level_s=20.0)
    plans = []
    for first in (None, 9.0):
        done: list[Level] = []
        found = {}
        for _ in range(3):
            following = next_level(load, done, first)
            assert following is not None
            found[following.name] = plan_of(load, following, 0).starts_ns
            done += run_virtual(
                Station(9, 0.1), workload(Closed(concurrency=(1,)), level_s=1.0), vocabulary=9
            ).levels
        plans.append(found)
    assert plans[0].keys() == plans[1].keys()
    for name, starts_ns in plans[0].items():
        np.testing.assert_array_equal(starts_ns, plans[1][name])


def test_results_do_not_depend_on_the_order() -> None:
    load = workload(Closed(concurrency=(1, 4, 8)), level_s=50.0)
    rates = []
    for first in (None, 8.0):
        report = run_virtual(Station(4, 0.5), load, vocabulary=1000, first=first)
        by_users = {level.concurrency: len(level.records) for level in report.levels}
        rates.append([by_users[users] for users in (1, 4, 8)])
    assert rates[0] == pytest.approx(rates[1], abs=1)


def test_a_load_without_a_list_has_one_order() -> None:
    assert listed_loads(Trace()) == ()
    assert listed_loads(Poisson(rate_per_s=(1.5, 2))) == (1.5, 2)


def test_after_level_ends_the_load() -> None:
    seen: list[str] = []

    def after(level: Level) -> str:
        seen.append(level.load)
        return "enough" if level.concurrency == 1 else ""

    load = workload(Closed(concurrency=(1, 4, 8)), level_s=5.0)
    report = run_virtual(Station(4, 0.5), load, vocabulary=1000, first=4, after_level=after)
    assert seen == ["closed 4", "closed 1"]
    assert [level.load for level in report.levels] == seen
    assert report.ended_because == "enough"
    assert not report.stopped
    assert report.failure is None


@pytest.mark.process
def test_after_level_ends_the_load_on_the_wall_clock() -> None:
    with fake_server() as server:
        report = loadgen.run(
            server.url,
            "fake",
            short_workload(arrival=Closed(concurrency=(1, 2, 4))),
            first=4,
            after_level=lambda level: "enough" if level.index == 1 else "",
        )
    assert [level.concurrency for level in report.levels] == [4, 1]
    assert report.ended_because == "enough"
    assert report.failure is None


def climbed(
    config: Adaptive, curve: Callable[[float], tuple[float, float]], limits: Mapping[str, float],
    first: float,
) -> list[Rung]:  # fmt: skip
    done: list[Rung] = []
    while (load := next_load(config, done, list(limits), first)) is not None:
        throughput, latency = curve(load)
        done.append(Rung(load, throughput, {n: latency <= v for n, v in limits.items()}))
    return done


@pytest.mark.parametrize("first", [1, 3, 20, 48, 300, 5000])
@pytest.mark.parametrize("slots", [24, 400])
def test_a_ladder_finds_the_same_from_any_first_load(first: float, slots: float) -> None:
    config, curve = Adaptive(levels=30), engine(slots, 0.2)
    done = climbed(config, curve, LIMITS, first)
    assert done[0].load == min(first, 1024)
    assert min(rung.load for rung in done) == 1
    for name, limit in LIMITS.items():
        found, true = highest_meeting(done, name), truth(curve, limit, 1024)
        assert found is not None
        assert found <= true <= max(found * config.resolution, found + 1)
    from_below = climbed(config, curve, LIMITS, 1)
    assert len(done) <= len(from_below) + 3
    knees = [knee(config, rungs) for rungs in (done, from_below)]
    assert abs(math.log(knees[0] / knees[1])) <= 2 * math.log(config.resolution)


def test_no_step_of_the_climb_is_left_out_below_the_first_load() -> None:
    done = climbed(Adaptive(levels=8), engine(1000, 0.01), {}, 100)
    assert [rung.load for rung in done[:5]] == [100, 1, 4, 16, 64]
    stands_in = climbed(Adaptive(levels=8), engine(1000, 0.01), {}, 20)
    assert [rung.load for rung in stands_in[:5]] == [20, 1, 4, 80, 320]


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.sampled_from([True, False, None]), st.booleans()),
        min_size=40, max_size=40,
    ),
    st.sampled_from(["closed", "poisson"]),
    st.integers(1, 12),
    st.floats(1, 50),
    st.floats(50, 2000),
    st.floats(0.1, 5000),
)  # fmt: skip
def test_from_any_first_load_it_ends_and_never_repeats_a_load(
    answers: list[tuple[float, bool | None, bool]],
    loop: str,
    levels: int,
    lowest: float,
    highest: float,
    first: float,
) -> None:
    config = Adaptive.model_validate(
        {"loop": loop, "levels": levels, "lowest": lowest, "highest": highest}
    )
    done: list[Rung] = []
    while (load := next_load(config, done, ["a"], first)) is not None:
        assert load not in [rung.load for rung in done]
        throughput, inside, saturated = answers[len(done)]
        done.append(Rung(load, throughput, {"a": inside}, saturated))
    assert 1 <= len(done) <= levels
