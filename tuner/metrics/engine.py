"""The metrics that an engine reports of itself, over the window of a load level. Pure."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.telemetry.engine_metrics.page import Quantity
from serving.telemetry.engine_metrics.trace import EngineTrace, EngineWindow
from tuner.metrics.catalogue.engine import QUEUES
from tuner.metrics.energy import Figures

NOT_READ = "the engine's metrics were not read"
NOT_REPORTED = "the engine does not report it"
NO_DRAFTS = "no tokens were drafted"
NO_RISE = "the engine's counter was not read before and after the window"

# Gauge → statistic → metric.
_GAUGES: tuple[tuple[str, Quantity, Callable[[NDArray[np.float64]], np.floating]], ...] = (
    ("engine_running_mean", "running", np.mean),
    ("engine_running_max", "running", np.max),
    ("engine_waiting_mean", "waiting", np.mean),
    ("engine_waiting_max", "waiting", np.max),
    ("engine_kv_cache_share_max", "kv_cache_share", np.max),
)
_ROLES: dict[str, Quantity] = {
    "engine_prefill_queue_max": "prefill_queue",
    "engine_decode_queue_max": "decode_queue",
}


def engine_figures(trace: EngineTrace | None, begin_ns: int, end_ns: int) -> Figures:
    """The metrics of `catalogue.engine.ENGINE` that apply, and for each that is None the reason."""
    figures: dict[str, float | None] = dict.fromkeys(QUEUES)
    if trace is None:
        return figures, dict.fromkeys(QUEUES, NOT_READ)
    window = trace.within(begin_ns, end_ns)
    if window.absent_because:
        return figures, dict.fromkeys(QUEUES, window.absent_because)
    reasons: dict[str, str] = {}
    for name, quantity, statistic in _GAUGES:
        samples = window.gauges.get(quantity)
        if samples is None or not len(samples):
            reasons[name] = NOT_REPORTED
        else:
            figures[name] = float(statistic(samples))
    _counted(window, figures, reasons)
    for name, quantity in _ROLES.items():
        samples = window.gauges.get(quantity)
        if samples is not None and len(samples) and quantity in trace.used:
            figures[name] = float(samples.max())
    return figures, reasons


def _counted(
    window: EngineWindow, figures: dict[str, float | None], reasons: dict[str, str]
) -> None:
    name = "engine_preemptions"
    if "preemptions" not in window.rises:
        reasons[name] = NOT_REPORTED
    elif (preemptions := window.rises["preemptions"]) is None:
        reasons[name] = NO_RISE
    else:
        figures[name] = float(round(preemptions))  # between two samples it is interpolated
    hits, no_hits = _share(window, "prefix_hits", "prefix_queries", "no prompt was counted")
    accepted, none = _share(window, "accepted_drafts", "drafts", NO_DRAFTS)
    if "acceptance" in window.gauges:
        accepted, none = _gauge(window), NO_DRAFTS
    for name, share, why in (
        ("engine_prefix_hit_share", hits, no_hits),
        ("engine_draft_acceptance", accepted, none),
    ):
        figures[name] = share
        if share is None:
            reasons[name] = why


def _share(
    window: EngineWindow, part: Quantity, whole: Quantity, nothing: str
) -> tuple[float | None, str]:
    if part not in window.rises or whole not in window.rises:
        return None, NOT_REPORTED
    of, total = window.rises[part], window.rises[whole]
    if of is None or total is None:
        return None, NO_RISE
    return (of / total, "") if total else (None, nothing)


def _gauge(window: EngineWindow) -> float | None:
    """SGLang has a gauge alone, which is 0 without speculative decoding."""
    samples = window.gauges.get("acceptance")
    return float(samples.mean()) if samples is not None and samples.any() else None
