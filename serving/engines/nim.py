"""NVIDIA NIM for LLMs, started inside its container. Its settings are environment variables."""

import shlex
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch
from serving.errors import BadFlags, OutOfMemory

Positive = Annotated[int, Field(ge=1)]


class Nim(BaseEngine):
    """Wattfront runs in the container, beside the server: a container started from outside is no
    process of ours, so nothing could prove who answers, or that it is gone.

    `passthrough_args`: flags for the engine within (vLLM's or SGLang's), as the image has it.
    """

    default_executable: ClassVar[str] = "/opt/nim/start_server.sh"
    health_path: ClassVar[str] = "/v1/health/ready"
    typical_start_s: ClassVar[float] = 180.0
    deaths: ClassVar[tuple[Death, ...]] = (
        (r"No available memory for the cache blocks", OutOfMemory),
        (r"No (compatible|valid|matching) profiles?", BadFlags),
        (r": error: ", BadFlags),
    )

    kind: Literal["nim"] = "nim"
    model_profile: str | None = None
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    disable_cuda_graph: bool | None = None
    passthrough_args: tuple[str, ...] = ()

    def command(self, launch: Launch) -> list[str]:
        return [launch.executable, *self.extra_args]

    def environ(self, launch: Launch) -> dict[str, str]:
        topology = launch.topology
        engine_args = list(self.passthrough_args)
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
