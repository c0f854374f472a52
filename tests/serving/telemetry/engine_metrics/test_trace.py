"""Windows of samples: gauges inside, counters between, and when nothing can be said."""

import pytest

from serving.telemetry.engine_metrics.page import Quantity
from serving.telemetry.engine_metrics.trace import EngineTrace, engine_trace

S = 10**9


def trace(*samples: tuple[float, dict[Quantity, float]], because: str = "") -> EngineTrace:
    taken = [(round(at_s * S), values) for at_s, values in samples]
    return engine_trace(taken, "/metrics", 1.0, because)


def test_gauges_are_those_inside_and_counters_rise_between_samples() -> None:
    seen = trace(*((s, {"running": s, "preemptions": 10.0 * s}) for s in range(11)))
    window = seen.within(round(2.5 * S), 8 * S)
    assert window.absent_because == ""
    assert window.gauges["running"].tolist() == [3, 4, 5, 6, 7, 8]
    assert window.rises["preemptions"] == pytest.approx(55)


def test_a_window_without_samples_has_a_reason() -> None:
    assert trace().within(0, S).absent_because == "no sample in a window of 1 s"
    absent = trace(because="/metrics answered 404")
    assert absent.within(0, S).absent_because == "/metrics answered 404"
    between = trace((0, {"running": 1}), (1, {"running": 1}))
    assert between.within(S // 4, S // 2).absent_because == "no sample in a window of 0.25 s"


def test_few_samples_are_no_picture_of_a_window() -> None:
    """Those that are missing are of when the engine was busiest."""
    seen = trace(*((s, {"running": 1.0}) for s in (0, 1, 2, 3, 60)))
    assert "4 of 40 samples in the window: the engine did not answer" in (
        seen.within(0, 40 * S).absent_because
    )


def test_a_counter_that_was_not_read_around_the_window_is_unknown() -> None:
    late = trace((1, {"preemptions": 0.0}), (3, {"preemptions": 5.0}))
    assert late.within(0, 2 * S).rises["preemptions"] is None
    assert late.within(S, 3 * S).rises["preemptions"] == 5
    reset = trace((0, {"preemptions": 7.0}), (2, {"preemptions": 1.0}))
    assert reset.within(0, 2 * S).rises["preemptions"] is None


def test_a_page_that_lacks_a_series_at_times_leaves_those_moments_out() -> None:
    seen = trace((0, {"drafts": 0.0}), (1, {"running": 2.0}), (2, {"drafts": 4.0, "running": 4.0}))
    window = seen.within(0, 2 * S)
    assert window.gauges["running"].tolist() == [2, 4]
    assert window.rises["drafts"] == 4
