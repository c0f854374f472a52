"""TensorRT-LLM (`trtllm-serve`), PyTorch backend."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, Value, beyond_one, flags
from serving.errors import BadFlags, OutOfMemory
from serving.process.environ import HUB_TOKENS
from serving.topology import Positive

Fraction = Annotated[float, Field(gt=0, le=1)]


class TrtLlm(BaseEngine):
    """Knobs as in `trtllm-serve serve --help`.

    Options that exist only in its YAML go into the file that `extra_llm_api_options` names.
    """

    default_executable: ClassVar[str] = "trtllm-serve"
    version_at: ClassVar[tuple[str, str]] = ("/version", "version")
    typical_start_s: ClassVar[float] = 180.0
    inherits: ClassVar[tuple[str, ...]] = ("TRTLLM_*", "TLLM_*", "TRT_LLM_*")
    secrets: ClassVar[tuple[str, ...]] = HUB_TOKENS
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
    # As in 1.2 and 1.3.
    unset_means: ClassVar[Mapping[str, Value]] = {
        "backend": "pytorch",
        "max_batch_size": 2048,
        "max_num_tokens": 8192,
        "max_beam_width": 1,
        "enable_chunked_prefill": False,
        "num_postprocess_workers": 0,
    }

    kind: Literal["trtllm"] = Field(default="trtllm", description="TensorRT-LLM's trtllm-serve")
    backend: Literal["pytorch", "tensorrt", "_autodeploy"] | None = Field(
        default=None, description="execution backend; TensorRT-LLM 1.3 has pytorch alone"
    )
    max_batch_size: Positive | None = Field(
        default=None, description="most requests that run at once"
    )
    max_num_tokens: Positive | None = Field(
        default=None, description="most tokens in one step, prompts and decodes together"
    )
    max_beam_width: Positive | None = Field(
        default=None, description="most beams of a beam search; 1: no beam search"
    )
    kv_cache_free_gpu_memory_fraction: Fraction | None = Field(
        default=None,
        description="share for the KV cache of the GPU memory that is free once weights are loaded",
    )
    enable_chunked_prefill: bool | None = Field(
        default=None, description="split long prompts over several steps"
    )
    num_postprocess_workers: Annotated[int, Field(ge=0, le=65_536)] | None = Field(
        default=None, description="processes that detokenize and format responses; 0: none"
    )
    extra_llm_api_options: str | None = Field(
        default=None, description="path on every node of a YAML with further LLM API options"
    )

    def command(self, launch: Launch) -> list[str]:
        """`trtllm-serve serve MODEL`."""
        topology = launch.topology
        return [
            launch.executable,
            "serve",
            launch.model_path,
            *flags(
                {
                    # In 1.3 an alias of `--hf_revision`.
                    "--revision": launch.revision,
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
