"""llama.cpp's HTTP server (`llama-server`)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Launch, ModelFormat, flags, refuse_revision
from serving.engines.deaths.llamacpp import LLAMACPP
from serving.engines.deaths.model import DeathTable
from serving.telemetry.engine_metrics import names
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.topology import Positive, Seconds

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]


class LlamaCpp(BaseEngine):
    """Knobs as in `llama-server --help`, except `ctx_size`: per slot here, of all slots there."""

    model_format: ClassVar[ModelFormat] = "gguf"
    default_executable: ClassVar[str] = "llama-server"
    # Of xllamacpp 2026.10: every streamed answer, 2026-11-30.
    breaks_connections: ClassVar[bool] = True
    framework: ClassVar[str] = "llamacpp"
    takes_revision: ClassVar[bool] = False
    version_at: ClassVar[tuple[str, str]] = ("/props", "build_info")
    typical_start_s: ClassVar[float] = 3.0
    metrics_page: ClassVar[MetricsPage] = names.LLAMACPP
    api_key_variable: ClassVar[str] = "LLAMA_API_KEY"
    inherits: ClassVar[tuple[str, ...]] = ("LLAMA_*", "GGML_*")
    deaths: ClassVar[DeathTable] = LLAMACPP
    meanings: ClassVar[Mapping[str, str]] = {
        "parallel": "max_sequences",
        "batch_size": "step_tokens",
    }
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {
            "parallel",
            "ctx_size",
            "batch_size",
            "ubatch_size",
            "threads",
            "threads_batch",
            "kv_unified",
        }
    )

    kind: Literal["llamacpp"] = Field(
        default="llamacpp", description="llama.cpp's llama-server; its models are GGUF files"
    )
    environment: str | None = Field(
        default="llamacpp",
        description="environment of `wattfront engines install` that has llama-server",
    )
    start_timeout_s: Seconds = Field(
        default=120.0,
        description="seconds from starting the process until it must answer; after that the trial fails",
    )
    parallel: Positive | None = Field(
        default=None, description="slots: requests that are decoded at once; unset: 1"
    )
    ctx_size: Positive | None = Field(
        default=None, description="context of one slot, in tokens; unset: model.context_tokens"
    )
    batch_size: Positive | None = Field(
        default=None, description="logical batch: most tokens submitted to one decode call"
    )
    ubatch_size: Positive | None = Field(
        default=None, description="physical batch: most tokens computed at once"
    )
    threads: Positive | None = Field(
        default=None, description="CPU threads for decoding single tokens"
    )
    threads_batch: Positive | None = Field(
        default=None, description="CPU threads for prompts and batches; unset: as `threads`"
    )
    cache_type_k: CacheType | None = Field(
        default=None, description="data type of the keys in the KV cache"
    )
    cache_type_v: CacheType | None = Field(
        default=None,
        description="data type of the values in the KV cache; quantized ones need flash_attn",
    )
    flash_attn: Literal["on", "off", "auto"] | None = Field(
        default=None, description="flash attention"
    )
    kv_unified: bool | None = Field(
        default=None, description="one KV buffer that all slots share, instead of one per slot"
    )
    n_gpu_layers: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="layers that are kept in GPU memory"
    )

    def command(self, launch: Launch) -> list[str]:
        """`llama-server` with the context of all slots together."""
        refuse_revision(launch, "llama.cpp")
        context = self.ctx_size or launch.context_tokens
        return [
            launch.executable,
            *flags(
                {
                    "--model": launch.model_path,
                    "--alias": launch.served_model,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--ctx-size": context * (self.parallel or 1),
                    "--metrics": True,
                }
            ),
            *self.knobs(without=("ctx_size",)),
            *self.flag_words(launch),
            *self.extra_args,
        ]
