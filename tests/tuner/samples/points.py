"""Results with invented figures, made of the real types."""

from typing import Any

from loadgen import Closed, Workload
from serving.engines import LlamaCpp
from serving.topology import Model, Topology
from tuner.config.groups.hardware import Hardware
from tuner.config.trial import TrialConfig
from tuner.trial.result import Completed, Failed, OperatingPoint, Timings

CONFIG = TrialConfig(
    engine=LlamaCpp(),
    model=Model(name="m", source="m", context_tokens=64, vocabulary=100),
    topology=Topology(cpus=1),
    hardware=Hardware(name="h", device="host", devices_per_node=1),
    workload=Workload(
        name="w", input_tokens=1, output_tokens=2, arrival=Closed(concurrency=(1, 2))
    ),
)
TIMINGS = Timings(wall_s=3, startup_s=1, load_s=1)


def point(
    level: int = 0, *, invalid_because: tuple[str, ...] = (), **metrics: Any
) -> OperatingPoint:
    load = f"closed {2**level}"
    return OperatingPoint(level, load, metrics, {}, invalid_because, load_value=2.0**level)


def completed(*points: OperatingPoint) -> Completed:
    return Completed(CONFIG, points, TIMINGS, "serve")


def failed() -> Failed:
    return Failed(CONFIG, "OutOfMemory", "no memory", TIMINGS)
