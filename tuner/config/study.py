"""The configuration of a study. Pure."""

from typing import Annotated

from pydantic import Field

from loadgen.workload.workload import Workload
from serving.engines import Engine
from serving.telemetry.sources.config import PowerConfig
from serving.topology import Model, Strict, Topology
from tuner.config.groups.cluster import ClusterConfig
from tuner.config.groups.economics import Economics
from tuner.config.groups.hardware import Hardware
from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.config.groups.quality import QualityConfig
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Space
from tuner.config.groups.tracking import TrackingConfig
from tuner.config.trial import reserved


class StudyConfig(Strict):
    """What each trial starts from, what varies between trials, and how results are compared."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/]+$")] = Field(
        description="name of the study, in reports and of its folder"
    )
    engine: Annotated[dict[str, Engine], Field(min_length=1)] = Field(
        description="the engines to compare: kind → its settings"
    )
    model: Model = Field(description="the model to serve")
    topology: Topology = Field(description="how the model is laid out over devices")
    hardware: Hardware = Field(description="the nodes, real or emulated, and their constants")
    workload: Workload = Field(description="the load of each trial")
    power: PowerConfig = Field(
        default=PowerConfig(), description="power limits of the GPUs, and how energy is metered"
    )
    slo: Slo = Field(description="tiers of service, each with its latency limits")
    space: Space = Field(description="what varies between trials")
    search: SearchConfig = Field(description="how configurations are chosen, and when to stop")
    objective: ObjectiveConfig = Field(description="target metric, and axes of the Pareto front")
    economics: Economics = Field(
        default=Economics(), description="costs of capacity, prices of tokens"
    )
    quality: QualityConfig = Field(
        default=QualityConfig(),
        description="comparison of answers with the default's, where trials change numerics",
    )
    cluster: ClusterConfig = Field(description="the Ray cluster that the trials run on")
    tracking: TrackingConfig = Field(description="where results are mirrored")
    output_dir: str = Field(
        default="studies", description="the folder under which each study has a folder of its own"
    )

    @property
    def reserves(self) -> Topology:
        """What Ray reserves for a trial as configured. See `TrialConfig.reserves`."""
        return reserved(self.topology, self.engine.values())
