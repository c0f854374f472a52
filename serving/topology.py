"""The model under test, and its layout over devices."""

from dataclasses import dataclass
from typing import Annotated, Literal

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


class Layout(Strict):
    """Parallelism of an engine over GPUs, and how many such engines there are."""

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
    replicas: Ranks = Field(default=1, description="engines of this layout, behind a router")

    @property
    def gpus_each(self) -> int:
        """Of one engine: tensor × pipeline × data parallel size."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


RouterName = Literal["vllm", "sglang", "trtllm"]
Role = Literal["", "prefill", "decode"]


class Topology(Layout):
    """Engines over GPUs, or over CPU cores for engines that run without GPUs; the prefill apart, if at all."""

    cpus: Annotated[int, Field(ge=0, le=65_536)] = Field(
        default=0, description="CPU cores of each engine without GPUs; 0: engines run on GPUs"
    )
    prefill: Layout | None = Field(
        default=None,
        description="engines that read prompts and hand over their KV cache; the rest of `topology` is then "
        "the layout of the decode engines; unset: every engine does both",
    )
    router: RouterName | None = Field(
        default=None,
        description="the router of that framework before the engines, or before one, to see what it costs; "
        "unset: before several engines the engine's own, vLLM's for those that have none",
    )

    router_args: tuple[str, ...] = Field(
        default=(),
        description="arguments that are appended to the router's command line as they are",
    )

    @property
    def gpus(self) -> int:
        """Of all engines; 0 for engines on CPU cores."""
        return 0 if self.cpus else sum(each.gpus_each * each.replicas for each in self.layouts)

    @property
    def cores(self) -> int:
        """CPU cores of all engines; 0 for engines on GPUs."""
        return self.cpus * sum(each.replicas for each in self.layouts)

    @property
    def routed(self) -> bool:
        """Whether a router answers, not the engine itself."""
        return self.router is not None or self.prefill is not None or self.replicas > 1

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """That of the prefill engines, where there are some, and that of all others."""
        return (self,) if self.prefill is None else (self.prefill, self)

    def fits(self, gpus: int, cpus: int) -> bool:
        """Whether a node with so many holds a trial: engines on GPUs take no core of Ray's."""
        return self.gpus <= gpus if self.gpus else max(self.cores, 1) <= cpus

    @property
    def devices(self) -> int:
        """GPUs, or 1 for a CPU host: the divisor of every figure per device."""
        return self.gpus or 1

    @property
    def members(self) -> "tuple[Member, ...]":
        """Each engine with its role, prefill engines first."""
        split = self.prefill is not None
        roles: list[tuple[Role, Layout]] = [("decode" if split else "", self)]
        if self.prefill is not None:
            roles.insert(0, ("prefill", self.prefill))
        return tuple(
            Member(role, number, self._alone(layout))
            for role, layout in roles
            for number in range(layout.replicas)
        )

    def _alone(self, layout: Layout) -> "Topology":
        own = {name: getattr(layout, name) for name in Layout.model_fields}
        return Topology(**{**own, "replicas": 1}, cpus=self.cpus)


@dataclass(frozen=True, slots=True)
class Member:
    """One engine of a trial: number `number` of its role, laid out as `topology` says."""

    role: Role
    number: int
    topology: Topology

    @property
    def name(self) -> str:
        """As in logs and messages."""
        return f"{self.role or 'engine'} {self.number}"


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
