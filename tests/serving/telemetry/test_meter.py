"""Counters over time: interpolation against arithmetic, and a meter on a source that comes and goes."""

import itertools
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.telemetry.base import Reading
from serving.telemetry.meter import Sample, metered, power_metered
from serving.telemetry.trace import CounterTrace


def trace(at_ns: list[int], values: list[list[float]]) -> CounterTrace:
    names = tuple(f"gpu{index}" for index in range(len(values[0])))
    return CounterTrace(np.array(at_ns, np.int64), np.array(values, float), names, "test")


def test_the_ends_of_a_window_lie_between_samples() -> None:
    seen = trace([0, 100, 300], [[0, 10], [50, 10], [150, 30]])
    assert seen.increase(50, 200) == pytest.approx({"gpu0": 75, "gpu1": 10})


@pytest.mark.parametrize(("begin_ns", "end_ns"), [(-1, 50), (50, 301), (50, 50), (60, 50)])
def test_a_window_beyond_the_samples_is_refused(begin_ns: int, end_ns: int) -> None:
    seen = trace([0, 100, 300], [[0], [50], [150]])
    assert not seen.covers(begin_ns, end_ns)
    with pytest.raises(ValueError, match="does not cover"):
        seen.increase(begin_ns, end_ns)


@given(
    st.lists(st.integers(1, 1000), min_size=3, max_size=20),
    st.lists(st.floats(0, 1000), min_size=20, max_size=20),
    st.floats(0.01, 0.98),
)
def test_windows_add_up(gaps: list[int], steps: list[float], cut: float) -> None:
    at_ns = list(itertools.accumulate(gaps))
    counted = list(itertools.accumulate(steps[: len(gaps)]))
    seen = trace(at_ns, [[each] for each in counted])
    begin_ns, end_ns = at_ns[0], at_ns[-1]
    middle_ns = begin_ns + max(1, int(cut * (end_ns - begin_ns)))
    if begin_ns < middle_ns < end_ns:
        parts = (
            seen.increase(begin_ns, middle_ns)["gpu0"] + seen.increase(middle_ns, end_ns)["gpu0"]
        )
        assert parts == pytest.approx(seen.increase(begin_ns, end_ns)["gpu0"], abs=1e-6)


def test_a_meter_covers_its_block_and_outlives_a_silent_source() -> None:
    count = itertools.count()

    def read() -> Sample | None:
        number = next(count)
        if number == 1:
            return None
        return Sample(
            time.monotonic_ns(), {"a": float(number), **({"b": 1.0} if number == 2 else {})}
        )

    with metered(read, "test", every_s=0.01) as meter:
        begin_ns = time.monotonic_ns()
        while len(meter.samples) < 6:
            time.sleep(0.01)
        end_ns = time.monotonic_ns()
    seen = meter.trace()
    assert seen is not None
    assert seen.covers(begin_ns, end_ns)
    assert seen.names == ("a",)
    assert 2.0 not in seen.values


def test_a_source_that_never_answers_leaves_no_trace() -> None:
    with metered(lambda: None, "test", every_s=0.01) as meter:
        pass
    assert meter.trace() is None


@pytest.mark.parametrize("hangs_at", [0, 1])
def test_a_source_that_hangs_does_not_stop_the_block(
    hangs_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the block, or in it; the trace says so."""
    monkeypatch.setattr("serving.telemetry.meter.ANSWER_S", 0.2)
    released, reading, count = threading.Event(), threading.Event(), itertools.count()

    class Hanging:
        kind, power_kind = "nvml", "instant"
        every_s, gap_s, devices = 0.01, 1.0, ()

        def read(self) -> list[Reading]:
            if next(count) >= hangs_at:
                reading.set()
                released.wait()
            return []

    with power_metered("nvml", frozenset(), nullcontext(Hanging())) as recorder:  # type: ignore[arg-type]
        assert reading.wait(60)
    released.set()
    assert recorder.trace().absent_because == "nvml did not answer within 0.2 s"
