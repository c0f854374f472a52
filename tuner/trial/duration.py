"""Estimates how long a trial takes before it runs. Pure."""

from loadgen import Adaptive, Ramp, Step, Workload
from loadgen.workload.workload import level_count
from serving.telemetry.sources.config import Nvml, PowerConfig

OVERHEAD_S = 3.0  # of a trial, besides engine start and load
ADAPTIVE_LEVELS_MIN = 2  # the lowest load, and one that shows no gain


def load_s(workload: Workload) -> tuple[float, float]:
    """Seconds that all levels of a trial take, (least, most), without the drain after each."""
    longest_s = workload.warmup_s + workload.level_max_s
    shortest_s = workload.warmup_s + workload.level_s
    levels = fewest = level_count(workload)
    match workload.arrival:
        case Adaptive():
            fewest = min(ADAPTIVE_LEVELS_MIN, levels)
        case Ramp(over_s=over_s):
            shortest_s = longest_s = min(over_s, longest_s)
        case Step():
            shortest_s = longest_s  # its last rate goes on
    if workload.max_requests is not None:
        shortest_s = min(shortest_s, workload.warmup_s)
    return fewest * shortest_s, levels * longest_s


def idle_metering_s(power: PowerConfig, real_gpus: int) -> float:
    """Seconds of idle metering: once before the engine starts, once when it is ready."""
    boards = any(isinstance(source, Nvml) for source in power.sources.values())
    return 2 * power.idle_s if real_gpus and boards else 0.0
