"""A level that contradicts others is measured again, and decides nothing while it does."""

from collections.abc import Callable, Sequence
from heapq import heapify

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loadgen
from loadgen import Adaptive, Closed, Level
from loadgen.control.virtual import run_virtual
from loadgen.results.contradictions import CurvePoint, contradictions, suspects
from loadgen.results.stats import summarize
from loadgen.worker.virtual_dispatcher import VirtualExchange
from tests.loadgen.control.test_runner import workload as short_workload
from tests.loadgen.control.test_virtual import Station, workload
from tests.loadgen.fake_server import Behaviour, fake_server


class Disturbed(Station):
    """While `is_slow` of the virtual time, first tokens come three seconds late."""

    def __init__(self, is_slow: Callable[[float], bool]) -> None:
        super().__init__(1000, 0.5)
        self._is_slow = is_slow

    def send(self, sent: VirtualExchange, at_s: float) -> None:
        super().send(sent, at_s)
        if self._is_slow(at_s):
            self._events = [
                (end_s + 3, count, each) if each is sent else (end_s, count, each)
                for end_s, count, each in self._events
            ]
            heapify(self._events)
            sent.times_s = sent.times_s + 3


def curve(latencies_ms: Sequence[float], rate: float = 100.0) -> list[CurvePoint | None]:
    return [
        CurvePoint(
            2.0**place,
            f"closed {2**place}",
            {"ttft_p99_ms": value, "throughput_output_tok_s": rate * (place + 1)},
        )
        for place, value in enumerate(latencies_ms)
    ]


@pytest.mark.parametrize(
    ("latencies_ms", "expected"),
    [
        ([100, 200, 500, 11_900, 1_100, 2_000, 5_000], [3]),  # a convoy at one load
        ([3_000, 200, 210, 220, 300], [0]),  # the first requests warmed something up
        ([1_000, 2_000, 4_000, 90, 8_000], [3]),  # too good to be true: three others say so
        ([100, 400, 390, 2_000, 1_900], []),  # noise
        ([150, 4, 5, 6], []),  # a hiccup of a machine with tiny latencies
    ],
)
def test_the_level_out_of_line_is_the_suspect(
    latencies_ms: list[float], expected: list[int]
) -> None:
    assert list(suspects(contradictions(curve(latencies_ms)))) == expected


def test_collapsed_throughput_is_suspect_at_the_higher_load() -> None:
    points = curve([100, 110, 120])
    metrics = {"ttft_p99_ms": 130.0, "throughput_output_tok_s": 20.0}
    found = suspects(contradictions([*points, CurvePoint(8.0, "closed 8", metrics)]))
    assert list(found) == [3]
    assert found[3] == "throughput is 200 tok/s at closed 2, and 20 at closed 8: contradictory"
    failing = CurvePoint(8.0, "closed 8", {**metrics, "error_rate": 0.5})
    assert not contradictions([*points, failing])  # refusals explain it


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=9), st.randoms())
def test_without_the_suspects_nothing_is_contradictory(values: list[float], random) -> None:  # type: ignore[no-untyped-def]
    points = curve(values)
    random.shuffle(points)
    left = [
        None if place in suspects(contradictions(points)) else point
        for place, point in enumerate(points)
    ]
    assert not contradictions(left)
    assert not suspects(contradictions(curve(sorted(values))))


def measured(is_slow: Callable[[float], bool], **changes: object) -> tuple[Level, ...]:
    load = workload(Closed(concurrency=(1, 2, 4, 8)), level_s=60.0, level_max_s=90.0, **changes)
    return run_virtual(Disturbed(is_slow), load, vocabulary=1000).levels


def loads(levels: Sequence[Level]) -> list[tuple[int, str, bool]]:
    return [(each.index, each.load, not summarize(each).invalid_because) for each in levels]


def test_a_disturbed_level_is_measured_again_before_the_next_load_and_the_second_stands() -> None:
    levels = measured(lambda at_s: 62 < at_s < 122)  # the whole second level
    assert loads(levels) == [
        (0, "closed 1", True),
        (1, "closed 2", False),
        (2, "closed 4", True),
        (3, "closed 2", True),
        (4, "closed 8", True),
    ]
    (why,) = summarize(levels[1]).invalid_because
    assert why.startswith("TTFT p50 is 3,000 ms at closed 2, and 0 at closed 4: contradictory")
    assert why.endswith("measured again")
    assert levels[3].repeats == 1
    assert set(levels[3].records.level.tolist()) == {3}


def test_a_level_that_contradicts_again_decides_nothing() -> None:
    load = workload(Closed(concurrency=(1, 2, 4)), level_s=60.0, level_max_s=90.0)
    slow = [(62, 125), (187, 252)]  # the second level, and its repetition
    station = Disturbed(lambda at_s: any(low < at_s < high for low, high in slow))
    levels = run_virtual(station, load, vocabulary=1000).levels
    assert [name for _, name, _ in loads(levels)] == [
        "closed 1",
        "closed 2",
        "closed 4",
        "closed 2",
        "closed 4",
    ]
    assert [valid for *_, valid in loads(levels)] == [True, False, False, False, True]
    (why,) = summarize(levels[3]).invalid_because
    assert why.endswith("contradictory, measured twice")


def test_a_load_in_order_is_measured_once() -> None:
    assert loads(measured(lambda _: False)) == [
        (place, f"closed {2**place}", True) for place in range(4)
    ]
    assert len(measured(lambda _: True)) == 4  # slow at all loads is no contradiction


def test_what_is_due_again_ends_no_load() -> None:
    """A pruner that sees the disturbed level must not decide by it."""
    seen: list[tuple[str, bool]] = []

    def after(level: Level) -> str:
        seen.append((level.load, level.repeats is not None))
        return "slow" if level.load == "closed 4" and len(seen) == 3 else ""

    load = workload(Closed(concurrency=(1, 2, 4)), level_s=60.0, level_max_s=90.0)
    report = run_virtual(
        Disturbed(lambda at_s: 62 < at_s < 122), load, vocabulary=1000, after_level=after
    )
    assert report.ended_because == ""
    assert seen[-1] == ("closed 2", True)


def test_an_adaptive_load_counts_a_repeated_level_once() -> None:
    arrival = Adaptive(lowest=1, highest=64, levels=4, tiers={"a": {"ttft_p99_ms": 500}})
    load = workload(arrival, level_s=60.0, level_max_s=90.0)
    levels = run_virtual(Disturbed(lambda at_s: at_s < 60), load, vocabulary=1000).levels
    repeated = [level for level in levels if level.repeats is not None]
    assert [level.load for level in repeated] == ["closed 1"]
    assert len(levels) - len(repeated) == 4


@pytest.mark.process
@pytest.mark.alone
def test_on_the_wall_clock_too() -> None:
    def show(now: loadgen.Progress) -> None:
        if now.level > 0:  # whatever disturbed the first level is over
            server.behaviour.ttft_s = 0.002
        assert now.level < now.levels

    with fake_server(Behaviour(ttft_s=1.0)) as server:
        load = short_workload(arrival=Closed(concurrency=(1, 2)), level_s=3.0, level_max_s=6.0)
        report = loadgen.run(server.url, "fake", load, on_progress=show)
    assert [(level.load, level.repeats) for level in report.levels] == [
        ("closed 1", None),
        ("closed 2", None),
        ("closed 1", 0),
    ]
    assert summarize(report.levels[0]).invalid_because
    assert all(not summarize(level).invalid_because for level in report.levels[1:])
