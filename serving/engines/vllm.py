"""vLLM (`vllm serve`), on GPUs or on CPU."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, beyond_one, flags
from serving.errors import BadFlags, OutOfMemory

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
BY_ENVIRONMENT = ("cpu_kvcache_space_gib", "omp_threads")


class Vllm(BaseEngine):
    """Knobs as in `vllm serve --help`; the last two are variables of its CPU backend."""

    default_executable: ClassVar[str] = "vllm"
    version_at: ClassVar[tuple[str, str]] = ("/version", "version")
    typical_start_s: ClassVar[float] = 60.0
    deaths: ClassVar[tuple[Death, ...]] = (
        (r"vllm( serve)?.*: error: ", BadFlags),
        (r"No available memory for the cache blocks", OutOfMemory),
        (r"less than desired (GPU|CPU) memory utilization", OutOfMemory),
        (r"KV cache.*larger than the available KV cache memory", OutOfMemory),
        (r"validation errors? for \w+Config", BadFlags),
    )
    meanings: ClassVar[Mapping[str, str]] = {
        "max_num_seqs": "max_sequences",
        "max_num_batched_tokens": "step_tokens",
        "gpu_memory_utilization": "memory_fraction",
    }

    kind: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    gpu_memory_utilization: Fraction | None = None
    block_size: Positive | None = None
    load_format: str | None = None
    attention_backend: str | None = None
    all2all_backend: str | None = None
    compilation_config: str | None = None
    speculative_config: str | None = None
    stream_interval: Positive | None = None
    long_prefill_token_threshold: Positive | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    async_scheduling: bool | None = None
    enforce_eager: bool | None = None
    enable_dbo: bool | None = None
    cpu_kvcache_space_gib: Positive | None = None
    omp_threads: Positive | None = None

    def command(self, launch: Launch) -> list[str]:
        topology = launch.topology
        return [
            launch.executable,
            "serve",
            launch.model_path,
            *flags(
                {
                    "--served-model-name": launch.served_model,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--max-model-len": launch.context_tokens,
                    "--tensor-parallel-size": beyond_one(topology.tensor_parallel),
                    "--pipeline-parallel-size": beyond_one(topology.pipeline_parallel),
                    "--data-parallel-size": beyond_one(topology.data_parallel),
                    "--enable-expert-parallel": topology.expert_parallel,
                }
            ),
            *self.knobs(negatable=True, without=BY_ENVIRONMENT),
            *self.extra_args,
        ]

    def environ(self, launch: Launch) -> dict[str, str]:
        own: dict[str, str] = {"VLLM_NO_USAGE_STATS": "1"}
        if launch.topology.cpus:
            # `nobind`: vLLM's own choice would keep one core for itself on a small machine.
            own |= {"HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
            own["OMP_NUM_THREADS"] = str(self.omp_threads or launch.topology.cpus)
            if self.cpu_kvcache_space_gib:
                own["VLLM_CPU_KVCACHE_SPACE"] = str(self.cpu_kvcache_space_gib)
        return {**own, **super().environ(launch)}
