"""What a study is made of, and how one of its points becomes a trial. Pure."""

from typing import Annotated

from pydantic import Field

from loadgen.workload.workload import Workload
from serving.engines import Engine
from serving.telemetry.sources import PowerConfig
from serving.topology import Model, Strict, Topology
from tuner.config.groups.cluster import ClusterConfig
from tuner.config.groups.economics import Economics
from tuner.config.groups.hardware import Hardware
from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Space
from tuner.config.groups.tracking import TrackingConfig


class StudyConfig(Strict):
    """A trial with holes (`engine` to `workload`), what fills them, and what judges the result."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/]+$")]
    engine: Annotated[dict[str, Engine], Field(min_length=1)]
    model: Model
    topology: Topology
    hardware: Hardware
    workload: Workload
    power: PowerConfig = PowerConfig()
    slo: Slo
    space: Space
    search: SearchConfig
    objective: ObjectiveConfig
    economics: Economics = Economics()
    cluster: ClusterConfig
    tracking: TrackingConfig
    output_dir: str = "studies"
