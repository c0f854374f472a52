"""Which Ray cluster a study runs on, and what trials may use of it. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Seconds, Strict

Count = Annotated[int, Field(ge=0, le=65_536)]
Positive = Annotated[int, Field(ge=1, le=65_536)]


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
    dead_after_s: float = Field(
        default=120.0,
        ge=5,
        le=86_400,
        description="seconds without an answer after which a worker is killed and its trial tried again, "
        "and after which the study stops if the cluster itself does not answer",
    )
    wait_s: Seconds = Field(
        default=900.0,
        description="seconds that a trial waits for devices which other work on the cluster holds, or for a "
        "node that was lost; then the study stops (exit code 4), or goes on without such layouts",
    )
    prepare: bool = Field(
        default=True,
        description="before the first trial, fetch models of a hub into the cache of each node that lacks them "
        "and, on an existing cluster, install the environments that engines name; false: engines fetch models "
        "themselves, and a missing environment ends the study",
    )
    trials_at_once: Positive | None = Field(
        default=None,
        description="most trials that run at the same time; null: as many as the devices allow",
    )
