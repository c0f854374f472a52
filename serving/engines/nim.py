"""NVIDIA NIM for LLMs. Its settings are environment variables."""

import shlex
from typing import ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Launch, refuse_revision
from serving.engines.deaths.model import DeathTable
from serving.engines.deaths.nim import NIM
from serving.process.environ import HUB_TOKENS
from serving.telemetry.engine_metrics import names, startup
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupLines
from serving.topology import Positive


class Nim(BaseEngine):
    """In its container (`container`), or beside Wattfront in one that is there already."""

    default_executable: ClassVar[str] = "nim-serve"
    framework: ClassVar[str] = "nim"
    health_path: ClassVar[str] = "/v1/health/ready"
    takes_revision: ClassVar[bool] = False
    starts_by_image: ClassVar[bool] = True
    listens_everywhere: ClassVar[str] = "NIM listens on all interfaces"
    typical_start_s: ClassVar[float] = 180.0
    metrics_page: ClassVar[MetricsPage] = names.NIM
    startup_lines: ClassVar[StartupLines] = startup.NIM
    inherits: ClassVar[tuple[str, ...]] = ("NIM_*", "NGC_*")
    secrets: ClassVar[tuple[str, ...]] = ("NGC_API_KEY", *HUB_TOKENS)
    deaths: ClassVar[DeathTable] = NIM
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {"max_num_seqs", "max_num_batched_tokens", "disable_cuda_graph"}
    )

    kind: Literal["nim"] = Field(default="nim", description="NVIDIA NIM")
    model_profile: str | None = Field(
        default=None, description="NIM profile, by name or hash (NIM_MODEL_PROFILE)"
    )
    max_num_seqs: Positive | None = Field(
        default=None, description="most sequences in one step of the engine inside"
    )
    max_num_batched_tokens: Positive | None = Field(
        default=None, description="most tokens in one step of the engine inside"
    )
    disable_cuda_graph: bool | None = Field(
        default=None, description="run without CUDA graphs (NIM_DISABLE_CUDA_GRAPH)"
    )
    passthrough_args: tuple[str, ...] = Field(
        default=(),
        description="flags for the engine inside, vLLM or SGLang by the image (NIM_PASSTHROUGH_ARGS)",
    )

    def command(self, launch: Launch) -> list[str]:
        """`nim-serve` of NIM 2, or the `executable` of NIM 1; all settings are in `environ`."""
        refuse_revision(launch, "NIM")
        return [launch.executable, *self.extra_args]

    def environ(self, launch: Launch) -> dict[str, str]:
        """NIM's settings; what is unset is left out."""
        topology = launch.topology
        engine_args = list(self.passthrough_args)
        engine_args += self.flag_words(launch)
        for knob in ("max_num_seqs", "max_num_batched_tokens"):
            if (value := getattr(self, knob)) is not None:
                engine_args += [f"--{knob.replace('_', '-')}", str(value)]
        own: dict[str, str | int | None] = {
            "NIM_MODEL_PATH": launch.model_path,
            "NIM_SERVED_MODEL_NAME": launch.served_model,
            "NIM_SERVER_PORT": launch.port,
            "NIM_MAX_MODEL_LEN": launch.context_tokens,
            "NIM_TENSOR_PARALLEL_SIZE": topology.tensor_parallel,
            "NIM_PIPELINE_PARALLEL_SIZE": topology.pipeline_parallel,
            "NIM_MODEL_PROFILE": self.model_profile,
            "NIM_DISABLE_CUDA_GRAPH": _truth(self.disable_cuda_graph),
            "NIM_PASSTHROUGH_ARGS": shlex.join(engine_args) or None,
        }
        given = {key: str(value) for key, value in own.items() if value is not None}
        return {**given, **super().environ(launch)}


def _truth(value: bool | None) -> int | None:
    return None if value is None else int(value)
