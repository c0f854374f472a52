"""SGLang (`sglang serve`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, beyond_one, flags
from serving.errors import BadFlags, OutOfMemory

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class SgLang(BaseEngine):
    """Knobs as in `sglang serve --help`. An `executable` that is a Python runs the older
    `-m sglang.launch_server`."""

    default_executable: ClassVar[str] = "sglang"
    version_at: ClassVar[tuple[str, str]] = ("/server_info", "version")
    # The health page answers as soon as HTTP does; this one has the scheduler generate a token.
    health_path: ClassVar[str] = "/health_generate"
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

    kind: Literal["sglang"] = "sglang"
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    attention_backend: str | None = None
    load_format: str | None = None
    mem_fraction_static: Fraction | None = None
    max_running_requests: Positive | None = None
    max_total_tokens: Positive | None = None
    max_prefill_tokens: Positive | None = None
    chunked_prefill_size: Annotated[int, Field(ge=-1)] | None = None
    schedule_policy: str | None = None
    schedule_conservativeness: Annotated[float, Field(gt=0)] | None = None
    attn_dp_size: Positive | None = None
    page_size: Positive | None = None
    stream_interval: Positive | None = None
    enable_mixed_chunk: bool | None = None
    enable_torch_compile: bool | None = None
    disable_decode_cuda_graph: bool | None = None
    disable_overlap_schedule: bool | None = None
    disable_radix_cache: bool | None = None

    def command(self, launch: Launch) -> list[str]:
        topology = launch.topology
        python = Path(launch.executable).name.startswith("python")
        return [
            launch.executable,
            *(["-m", "sglang.launch_server"] if python else ["serve"]),
            *flags(
                {
                    "--model-path": launch.model_path,
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
