"""What an engine reports, over windows: against series whose figures are known."""

import pytest

from serving.telemetry.engine_metrics.page import Quantity
from serving.telemetry.engine_metrics.trace import engine_trace
from tuner.metrics.catalogue.engine import ENGINE, QUEUES
from tuner.metrics.energy import Figures
from tuner.metrics.engine import engine_figures

S = 10**9


def figures(*samples: dict[Quantity, float]) -> Figures:
    """Of a window from the second to the last but one sample, which are a second apart."""
    trace = engine_trace([(i * S, values) for i, values in enumerate(samples)], "/metrics", 1.0)
    return engine_figures(trace, S, (len(samples) - 2) * S)


def test_gauges_and_counters_of_a_window() -> None:
    running, waiting, share = (1, 16, 14, 16, 1), (0, 30, 50, 40, 0), (0.1, 0.9, 0.99, 0.95, 0.1)
    found, reasons = figures(
        *(
            {
                "running": running[i],
                "waiting": waiting[i],
                "kv_cache_share": share[i],
                "preemptions": 10.0 * i,
                "prefix_hits": 93.0 * i,
                "prefix_queries": 100.0 * i,
                "drafts": 10.0 * i,
                "accepted_drafts": 7.0 * i,
            }
            for i in range(5)
        )
    )
    assert reasons == {}
    assert found == pytest.approx({
        "engine_running_mean": 46 / 3,
        "engine_running_max": 16,
        "engine_waiting_mean": 40,
        "engine_waiting_max": 50,
        "engine_kv_cache_share_max": 0.99,
        "engine_preemptions": 20,
        "engine_prefix_hit_share": 0.93,
        "engine_draft_acceptance": 0.7,
    })  # fmt: skip


def test_what_an_engine_lacks_has_a_reason() -> None:
    found, reasons = figures(*({"running": 1.0, "drafts": 0.0, "accepted_drafts": 0.0},) * 4)
    assert {name for name, value in found.items() if value is None} == set(reasons)
    assert reasons["engine_waiting_mean"] == "the engine does not report it"
    assert reasons["engine_preemptions"] == "the engine does not report it"
    assert reasons["engine_draft_acceptance"] == "no tokens were drafted"
    assert set(found) == set(QUEUES)


def test_without_a_trace_nothing_is_known() -> None:
    found, reasons = engine_figures(None, 0, S)
    assert set(found.values()) == {None}
    assert reasons == dict.fromkeys(QUEUES, "the engine's metrics were not read")


def test_a_gauge_of_acceptance_counts_only_with_speculation() -> None:
    """SGLang shows 0 without speculative decoding."""
    assert figures(*({"acceptance": 0.0},) * 4)[0]["engine_draft_acceptance"] is None
    assert figures(*({"acceptance": 0.5},) * 4)[0]["engine_draft_acceptance"] == 0.5


def test_queues_of_two_pools_are_there_only_with_two_pools() -> None:
    """SGLang shows them as 0 with a single one."""
    assert set(figures(*({"prefill_queue": 0.0},) * 4)[0]) == set(QUEUES)
    samples: list[dict[Quantity, float]] = [
        {"prefill_queue": i, "decode_queue": 1.0} for i in range(4)
    ]
    found, _ = figures(*samples)
    assert set(found) == set(ENGINE)
    assert (found["engine_prefill_queue_max"], found["engine_decode_queue_max"]) == (2, 1)
