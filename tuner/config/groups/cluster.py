"""Which Ray cluster a study runs on, and what trials may use of it. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class ClusterConfig(Strict):
    """The Ray cluster, and how much of it the trials may use."""

    kind: Literal["local", "existing"] = Field(
        default="local",
        description="local: start Ray on this machine; existing: join a cluster that runs",
    )
    address: str | None = Field(
        default=None,
        description="HOST:PORT of an existing cluster; null: the one that Ray finds",
    )
    cpus: Count | None = Field(
        default=None, description="CPU cores of each node that trials may use; null: all"
    )
    gpus: Count | None = Field(
        default=None, description="GPUs of each node that trials may use; null: all"
    )
    nodes: Positive = Field(
        default=1,
        description="Ray nodes to start on this machine, each with `cpus` and `gpus` (kind local)",
    )
    trials_at_once: Positive | None = Field(
        default=None,
        description="most trials that run at the same time; null: as many as the devices allow",
    )
