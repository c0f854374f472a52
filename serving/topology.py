"""The model under test, and its layout over devices."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Upper bounds are far above any real setting: what exceeds them is a typing mistake.
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Ranks = Annotated[int, Field(ge=1, le=65_536)]
Seconds = Annotated[float, Field(gt=0, le=2_592_000)]  # 30 days
Pause = Annotated[float, Field(ge=0, le=2_592_000)]
Watts = Annotated[float, Field(gt=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Strict(BaseModel):
    """Frozen; refuses unknown keys, as a mistyped knob would benchmark the default, and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Topology(Strict):
    """Parallelism over GPUs, or a number of CPU cores for engines that run without GPUs."""

    tensor_parallel: Ranks = Field(
        default=1, description="tensor parallel size, in GPUs: each layer is split over that many"
    )
    pipeline_parallel: Ranks = Field(
        default=1, description="pipeline parallel size: the layers are split into that many stages"
    )
    data_parallel: Ranks = Field(
        default=1, description="data parallel size: replicas of the tensor × pipeline group"
    )
    expert_parallel: bool = Field(
        default=False,
        description="mixture of experts: whole experts on each GPU, instead of a slice of each expert",
    )
    cpus: Annotated[int, Field(ge=0, le=65_536)] = Field(
        default=0, description="CPU cores of an engine without GPUs; 0: the engine runs on GPUs"
    )

    @property
    def gpus(self) -> int:
        """Tensor × pipeline × data parallel size; 0 for an engine on CPU cores."""
        if self.cpus:
            return 0
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    def fits(self, gpus: int, cpus: int) -> bool:
        """Whether a node with so many holds a trial: an engine on GPUs takes no core of Ray's."""
        return self.gpus <= gpus if self.gpus else max(self.cpus, 1) <= cpus

    @property
    def devices(self) -> int:
        """GPUs, or 1 for a CPU host: the divisor of every figure per device."""
        return self.gpus or 1


class Model(Strict):
    """The model that every engine of a study serves."""

    name: str = Field(
        description="name under which the engines serve the model (served model name)"
    )
    source: str = Field(
        description="a model of `wattfront models list`, a Hugging Face id, or a path on every node"
    )
    context_tokens: Positive = Field(
        description="longest sequence, prompt and output together, in tokens"
    )
    vocabulary: Positive = Field(
        description="number of token ids: prompts that are token ids are drawn below it"
    )
    revision: str | None = Field(
        default=None,
        description="branch, tag or commit of a Hugging Face model; unset: the default branch. "
        "llama.cpp and NIM load local files and refuse it",
    )
