"""SGLang (`sglang serve`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, Value, beyond_one, flags
from serving.errors import BadFlags, LaunchError, OutOfMemory
from serving.process.environ import HUB_TOKENS
from serving.topology import Positive

Fraction = Annotated[float, Field(gt=0, lt=1)]


class SgLang(BaseEngine):
    """Knobs as in `sglang serve --help`.

    An `executable` that is a Python runs the older `-m sglang.launch_server`.
    """

    default_executable: ClassVar[str] = "sglang"
    version_at: ClassVar[tuple[str, str]] = ("/server_info", "version")
    # The health page answers as soon as HTTP does; this one has the scheduler generate a token.
    health_path: ClassVar[str] = "/health_generate"
    inherits: ClassVar[tuple[str, ...]] = ("SGLANG_*", "SGL_*", "DEEP_*")
    secrets: ClassVar[tuple[str, ...]] = HUB_TOKENS
    deaths: ClassVar[tuple[Death, ...]] = (
        (r"Not enough memory\b.*mem-fraction-static", OutOfMemory),
        (r"Capture cuda graph failed: CUDA out of memory", OutOfMemory),
        (r"launch_server\.py: error: |sglang.*: error: ", BadFlags),
        (r"AssertionError: .*(_size|divisible)", BadFlags),
    )
    meanings: ClassVar[Mapping[str, str]] = {
        "max_running_requests": "max_sequences",
        "chunked_prefill_size": "step_tokens",
        "mem_fraction_static": "memory_fraction",
    }
    # As in 0.5.22 and 0.5.23.
    unset_means: ClassVar[Mapping[str, Value]] = {
        **dict.fromkeys(("dtype", "kv_cache_dtype", "load_format"), "auto"),
        **dict.fromkeys(("enable_mixed_chunk", "enable_torch_compile"), False),
        **dict.fromkeys(("disable_overlap_schedule", "disable_radix_cache"), False),
        **dict.fromkeys(("attn_dp_size", "stream_interval"), 1),
        "disable_decode_cuda_graph": False,
        "max_prefill_tokens": 16_384,
        "schedule_conservativeness": 1.0,
        "schedule_policy": "fcfs",
    }

    kind: Literal["sglang"] = Field(default="sglang", description="SGLang")
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        default=None, description="data type of weights and activations"
    )
    quantization: str | None = Field(
        default=None, description="quantization method of the weights, for example fp8"
    )
    kv_cache_dtype: str | None = Field(
        default=None, description="data type of the KV cache, for example fp8_e4m3"
    )
    attention_backend: str | None = Field(
        default=None, description="attention kernels, for example flashinfer, fa3 or triton"
    )
    load_format: str | None = Field(
        default=None, description="format of the weight files; dummy: random weights"
    )
    mem_fraction_static: Fraction | None = Field(
        default=None, description="share of GPU memory for weights and KV cache together"
    )
    max_running_requests: Positive | None = Field(
        default=None, description="most requests that run at once"
    )
    max_total_tokens: Positive | None = Field(
        default=None, description="size of the KV cache pool, in tokens; unset: what memory allows"
    )
    max_prefill_tokens: Positive | None = Field(
        default=None, description="most prompt tokens in one prefill batch"
    )
    chunked_prefill_size: Annotated[int, Field(ge=-1, le=1_000_000_000)] | None = Field(
        default=None, description="most tokens in a chunk of a prefill; -1: prompts are not chunked"
    )
    schedule_policy: str | None = Field(
        default=None, description="order of waiting requests, for example fcfs or lpm"
    )
    schedule_conservativeness: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None,
        description="caution in admitting requests; above 1 fewer requests are retracted later",
    )
    attn_dp_size: Positive | None = Field(
        default=None, description="data parallel size of the attention layers alone"
    )
    page_size: Positive | None = Field(default=None, description="tokens in a page of the KV cache")
    stream_interval: Positive | None = Field(
        default=None, description="tokens between two streamed events of a response"
    )
    enable_mixed_chunk: bool | None = Field(
        default=None, description="mix chunks of prefills and decodes in one batch"
    )
    enable_torch_compile: bool | None = Field(
        default=None, description="optimise the model with torch.compile"
    )
    disable_decode_cuda_graph: bool | None = Field(
        default=None, description="decode without CUDA graphs"
    )
    disable_overlap_schedule: bool | None = Field(
        default=None, description="do not overlap CPU scheduling with GPU computation"
    )
    disable_radix_cache: bool | None = Field(
        default=None, description="do not reuse the KV cache of common prefixes"
    )

    @property
    def has_api_key(self) -> bool:
        """Always."""
        return True

    def ask_for(self, api_key: str, folder: Path | None) -> tuple[list[str], dict[str, str]]:
        """SGLang takes a key from its arguments or from its one file of arguments. Raises LaunchError."""
        if folder is None:
            return ["--api-key", api_key], {}
        if "--config" in self.extra_args:
            raise LaunchError(
                "engine.sglang.extra_args: --config can't be combined with workload.placement=apart, "
                "whose API key takes the place of that file: give its contents as arguments"
            )
        path = folder / "sglang.yaml"
        path.touch(0o600)
        path.write_text(f"api-key: '{api_key}'\n")
        return ["--config", str(path)], {}

    def command(self, launch: Launch) -> list[str]:
        """`sglang serve`, or `python -m sglang.launch_server`."""
        topology = launch.topology
        python = Path(launch.executable).name.startswith("python")
        return [
            launch.executable,
            *(["-m", "sglang.launch_server"] if python else ["serve"]),
            *flags(
                {
                    "--model-path": launch.model_path,
                    "--revision": launch.revision,
                    "--served-model-name": launch.served_model,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--context-length": launch.context_tokens,
                    "--device": "cpu" if topology.cpus else None,
                    "--tp-size": beyond_one(topology.tensor_parallel),
                    "--pp-size": beyond_one(topology.pipeline_parallel),
                    "--dp-size": beyond_one(topology.data_parallel),
                    "--ep-size": topology.tensor_parallel if topology.expert_parallel else None,
                }
            ),
            *self.knobs(),
            *self.extra_args,
        ]
