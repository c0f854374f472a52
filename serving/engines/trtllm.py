"""TensorRT-LLM (`trtllm-serve`), PyTorch backend."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, beyond_one, flags
from serving.errors import BadFlags, OutOfMemory

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class TrtLlm(BaseEngine):
    """Knobs as in `trtllm-serve serve --help`.

    What only its YAML can say goes into the file at `extra_llm_api_options`, a path on every node.
    """

    default_executable: ClassVar[str] = "trtllm-serve"
    version_at: ClassVar[tuple[str, str]] = ("/version", "version")
    typical_start_s: ClassVar[float] = 180.0
    deaths: ClassVar[tuple[Death, ...]] = (
        (r"Executor creation failed due to insufficient GPU memory", OutOfMemory),
        (r"\[TensorRT-LLM\].*out of memory|cudaMalloc.*out of memory", OutOfMemory),
        (r"^Error: (No such option|Invalid value|Got unexpected)", BadFlags),
        (r"validation errors? for \w*LlmArgs", BadFlags),
    )
    meanings: ClassVar[Mapping[str, str]] = {
        "max_batch_size": "max_sequences",
        "max_num_tokens": "step_tokens",
        "kv_cache_free_gpu_memory_fraction": "memory_fraction",
    }

    kind: Literal["trtllm"] = "trtllm"
    backend: Literal["pytorch", "tensorrt", "_autodeploy"] | None = None
    max_batch_size: Positive | None = None
    max_num_tokens: Positive | None = None
    max_beam_width: Positive | None = None
    kv_cache_free_gpu_memory_fraction: Fraction | None = None
    enable_chunked_prefill: bool | None = None
    num_postprocess_workers: Annotated[int, Field(ge=0)] | None = None
    extra_llm_api_options: str | None = None

    def command(self, launch: Launch) -> list[str]:
        topology = launch.topology
        return [
            launch.executable,
            "serve",
            launch.model_path,
            *flags(
                {
                    "--served_model_name": launch.served_model,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--max_seq_len": launch.context_tokens,
                    "--tp_size": beyond_one(topology.tensor_parallel),
                    "--pp_size": beyond_one(topology.pipeline_parallel),
                    "--ep_size": topology.tensor_parallel if topology.expert_parallel else None,
                }
            ),
            *self.knobs(separator="_"),
            *self.extra_args,
        ]
