"""Estimates how long a trial takes before it runs. Pure."""

import numpy as np
from numpy.typing import NDArray

from loadgen import Adaptive, Closed, Ramp, Step, Workload
from loadgen.workload.arrivals import Trace
from loadgen.workload.workload import level_count
from serving.telemetry.sources.config import Nvml, PowerConfig

Floats = NDArray[np.float64]

OVERHEAD_S = 3.0  # of a trial, besides engine start and load
ADAPTIVE_LEVELS_MIN = 2  # the lowest load, and one that shows no gain
BETWEEN_LEVELS_S = 0.2
DRAIN = 0.6  # of an open loop's mean request, until the last ends
# Of a level without noise: the steady window begins later, and the end is noticed late.
LEVEL_OVERRUN = 1.015
TRANSIENT = 1.45  # until all users had an answer and the queue is steady, in mean requests


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


def levels_s(
    workload: Workload, users: Floats, latency_s: Floats, precise: Floats | float = 0.5
) -> Floats:
    """Seconds of each level, by the workload's own rules. `users`: (levels,), those in flight at each load.

    `latency_s`: (…, levels), of a request from due to its end. `precise`: where `precision` ends a level,
    between its shortest (0) and its longest (1) duration.
    """
    shortest_s, longest_s = (
        workload.warmup_s + each for each in (workload.level_s, workload.level_max_s)
    )
    cycle_s = latency_s / np.maximum(users, 1e-9)  # between two answers
    if workload.max_requests is not None:
        return np.minimum(workload.max_requests * cycle_s, longest_s) + BETWEEN_LEVELS_S
    match workload.arrival:
        case Ramp(over_s=over_s):
            return np.full(latency_s.shape, min(over_s, longest_s)) + latency_s
        case Step():
            return np.full(latency_s.shape, longest_s) + latency_s
        case Trace():
            return np.asarray(shortest_s * (longest_s / shortest_s) ** (precise + 0 * latency_s))
    first_s = TRANSIENT * latency_s
    measured_s = np.maximum(workload.level_s, workload.min_requests * cycle_s)
    if workload.precision is not None:
        wanted_s = shortest_s * (longest_s / shortest_s) ** (precise + 0 * latency_s)
        measured_s = np.maximum(measured_s, wanted_s - workload.warmup_s)
    # At most half of a level is cut off its beginning.
    elapsed_s = np.maximum(np.maximum(workload.warmup_s, first_s) + measured_s, 2 * first_s)
    elapsed_s = np.clip(LEVEL_OVERRUN * elapsed_s, shortest_s, longest_s)
    drain_s = 0.0 if isinstance(workload.arrival, Closed) else DRAIN * latency_s
    return np.asarray(elapsed_s + drain_s + BETWEEN_LEVELS_S, np.float64)


def idle_metering_s(power: PowerConfig, real_gpus: int) -> float:
    """Seconds of idle metering: once before the engine starts, once when it is ready."""
    boards = any(isinstance(source, Nvml) for source in power.sources.values())
    return 2 * power.idle_s if real_gpus and boards else 0.0
