"""Which Ray cluster a study runs on, and what trials may use of it. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict

Count = Annotated[int, Field(ge=0)]


class ClusterConfig(Strict):
    """`local` starts Ray here; `existing` joins the cluster at `address` (default: the one Ray finds).

    `cpus`, `gpus`: what trials may use of each node; None = all it has. `nodes` > 1 starts as many Ray
    nodes in this one machine, each with that much. `trials_at_once` bounds what the devices would allow.
    """

    kind: Literal["local", "existing"] = "local"
    address: str | None = None
    cpus: Count | None = None
    gpus: Count | None = None
    nodes: Annotated[int, Field(ge=1)] = 1
    trials_at_once: Annotated[int, Field(ge=1)] | None = None
