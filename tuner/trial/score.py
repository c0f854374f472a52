"""A load level as an operating point: what was measured, and the figures per device, MW, $ and J."""

from collections.abc import Mapping

from loadgen import Level, LoadReport
from loadgen.results.stats import summarize
from serving.telemetry.trace import CounterTrace
from serving.telemetry.twin import LATE, STEPS
from tuner.config.trial import TrialConfig
from tuner.metrics.derive import derive
from tuner.metrics.energy import energy_figures
from tuner.trial.metering import Traces
from tuner.trial.result import OperatingPoint

LATE_SHARE_MAX = 0.1


def load_of(level: Level) -> tuple[float, int]:
    """By which levels are put in order: the load, then when it was measured."""
    return level.load_value or 0.0, level.index


def cut_short(report: LoadReport) -> str:
    """What ended a load before its last level; empty if nothing did."""
    error = report.failure
    return "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


def score(config: TrialConfig, level: Level, traces: Traces | None = None) -> OperatingPoint:
    """One load level as an operating point: the load's metrics, and those per device, MW, $ and J."""
    stats, traces = summarize(level), traces or Traces()
    devices = config.devices
    window, per_node = level.window, config.hardware.devices_per_node
    metering = traces.within(window.start_ns, window.end_ns, devices)
    energy, unknown = energy_figures(stats.metrics, metering, window.seconds, devices, per_node)
    measured = {**stats.metrics, **energy}
    derived, missing = derive(measured, devices, config.hardware, config.economics)
    doubts = [*stats.invalid_because, *_late(_grown(traces.lateness, level))]
    return OperatingPoint(
        level.index,
        level.load,
        {**measured, **derived},
        {**stats.reasons, **missing, **unknown},
        tuple(doubts),
    )


def _grown(trace: CounterTrace | None, level: Level) -> dict[str, float] | None:
    start_ns, end_ns = level.window.start_ns, level.window.end_ns
    if trace is None or not trace.covers(start_ns, end_ns):
        return None
    return trace.grown(start_ns, end_ns)


def _late(counted: Mapping[str, float] | None) -> list[str]:
    """An emulation that can't keep its own schedule shows this machine's limits, not the emulated one's."""
    if counted is None or not counted[STEPS]:
        return []
    share = counted[LATE] / counted[STEPS]
    if share <= LATE_SHARE_MAX:
        return []
    return [f"the emulation was late in {share:.0%} of its steps: this machine is too slow for it"]
