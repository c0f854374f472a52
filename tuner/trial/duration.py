"""How long a trial of a workload takes, before it is run. Pure."""

from loadgen import Adaptive, Ramp, Step, Workload
from loadgen.workload.workload import level_count
from serving.telemetry.sources import Nvml, PowerConfig

OVERHEAD_S = 3.0  # a trial beyond engine start and load
FEWEST_FOUND = 2  # levels of an adaptive ladder: the lowest, and one that shows no gain


def load_s(workload: Workload) -> tuple[float, float]:
    """The least and the most that all levels of a trial take; what drains after them comes on top."""
    longest_s = workload.warmup_s + workload.level_max_s
    shortest_s = workload.warmup_s + workload.level_s
    levels = fewest = level_count(workload)
    match workload.arrival:
        case Adaptive():
            fewest = min(FEWEST_FOUND, levels)
        case Ramp(over_s=over_s):
            shortest_s = longest_s = min(over_s, longest_s)
        case Step():
            shortest_s = longest_s  # its last rate goes on
    if workload.max_requests is not None:
        shortest_s = min(shortest_s, workload.warmup_s)
    return fewest * shortest_s, levels * longest_s


def idles_s(power: PowerConfig, real_gpus: int) -> float:
    """Boards are metered idle before an engine starts, and again once it is ready."""
    boards = any(isinstance(source, Nvml) for source in power.sources.values())
    return 2 * power.idle_s if real_gpus and boards else 0.0
