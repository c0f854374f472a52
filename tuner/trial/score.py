"""Scores a load level: its metrics, and the figures per device, MW, dollar and joule derived from them."""

from collections.abc import Mapping

from loadgen import Level, LoadReport
from loadgen.results.stats import summarize
from serving.telemetry.sources.twin import LATE, STEPS
from serving.telemetry.trace import CounterTrace
from tuner.config.trial import TrialConfig
from tuner.metrics.derive import derive
from tuner.metrics.energy import energy_figures
from tuner.metrics.engine import engine_figures
from tuner.trial.metering import Traces
from tuner.trial.result import OperatingPoint

LATE_SHARE_MAX = 0.1  # of an emulation's steps


def load_of(level: Level) -> tuple[float, int]:
    """Sort key of levels: the load, then the order of measurement."""
    return level.load_value or 0.0, level.index


def cut_short(report: LoadReport) -> str:
    """The error that ended the load before its last level; empty if none did."""
    error = report.failure
    return "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


def score(config: TrialConfig, level: Level, traces: Traces | None = None) -> OperatingPoint:
    """The operating point of one load level. `traces`: power metered beside the load; None: none was."""
    stats, traces = summarize(level), traces or Traces()
    devices = config.devices
    window, per_node = level.window, config.hardware.devices_per_node
    metering = traces.within(window.start_ns, window.end_ns, devices)
    energy, unknown = energy_figures(stats.metrics, metering, window.seconds, devices, per_node)
    engine, unreported = engine_figures(traces.engine, window.start_ns, window.end_ns)
    measured = {**stats.metrics, **engine, **energy}
    derived, missing = derive(measured, devices, config.hardware, config.economics)
    doubts = [*stats.invalid_because, *_late(_grown(traces.lateness, level))]
    return OperatingPoint(
        level.index,
        level.load,
        {**measured, **derived},
        {**stats.reasons, **unreported, **missing, **unknown},
        tuple(doubts),
        load_value=level.load_value,
    )


def _grown(trace: CounterTrace | None, level: Level) -> dict[str, float] | None:
    start_ns, end_ns = level.window.start_ns, level.window.end_ns
    if trace is None or not trace.covers(start_ns, end_ns):
        return None
    return trace.increase(start_ns, end_ns)


def _late(counted: Mapping[str, float] | None) -> list[str]:
    """Why a level is invalid because the emulation fell behind its own schedule; empty if it kept it."""
    if counted is None or not counted[STEPS]:
        return []
    share = counted[LATE] / counted[STEPS]
    if share <= LATE_SHARE_MAX:
        return []
    return [f"the emulation was late in {share:.0%} of its steps: this machine is too slow for it"]
