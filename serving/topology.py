"""What a trial runs on: the model, and how it is laid over devices."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Unknown keys are errors: a mistyped knob would be a benchmark of the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Topology(Strict):
    """Parallelism over GPUs, or a number of CPU cores for engines that run on none.

    `gpus` = tensor × pipeline × data parallel size; 0 where `cpus` > 0.
    """

    tensor_parallel: Positive = 1
    pipeline_parallel: Positive = 1
    data_parallel: Positive = 1
    expert_parallel: bool = False
    cpus: Annotated[int, Field(ge=0)] = 0

    @property
    def gpus(self) -> int:
        if self.cpus:
            return 0
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def devices(self) -> int:
        """GPUs, or 1 for a CPU host: the divisor of every figure «per device»."""
        return self.gpus or 1


class Model(Strict):
    """`source` is a key of `serving.install.models.SOURCES`, a hub id, or a path on every node."""

    name: str
    source: str
    context_tokens: Positive
    vocabulary: Positive
    revision: str | None = None
