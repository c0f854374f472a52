"""llama.cpp's HTTP server (`llama-server`)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Death, Launch, ModelFormat, flags
from serving.errors import BadFlags, EngineExited, OutOfMemory

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
Positive = Annotated[int, Field(ge=1)]


class LlamaCpp(BaseEngine):
    """Knobs as in `llama-server --help`, but `ctx_size`: one slot's here, all slots' there."""

    model_format: ClassVar[ModelFormat] = "gguf"
    default_executable: ClassVar[str] = "llama-server"
    version_at: ClassVar[tuple[str, str]] = ("/props", "build_info")
    typical_start_s: ClassVar[float] = 3.0
    deaths: ClassVar[tuple[Death, ...]] = (
        (r"error: (invalid|unknown) argument", BadFlags),
        (r"error while handling argument", BadFlags),
        (r"quantized V cache requires flash_attn", BadFlags),
        (r"failed to allocate|unable to allocate|out of memory", OutOfMemory),
        (r"failed to load model|failed to open GGUF|unable to load model", EngineExited),
        (r"failed to create context", EngineExited),
    )
    meanings: ClassVar[Mapping[str, str]] = {
        "parallel": "max_sequences",
        "batch_size": "step_tokens",
    }

    kind: Literal["llamacpp"] = "llamacpp"
    environment: str | None = "llamacpp"
    start_timeout_s: float = Field(default=120.0, gt=0)
    parallel: Positive | None = None
    ctx_size: Positive | None = None
    batch_size: Positive | None = None
    ubatch_size: Positive | None = None
    threads: Positive | None = None
    threads_batch: Positive | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    flash_attn: Literal["on", "off", "auto"] | None = None
    kv_unified: bool | None = None
    n_gpu_layers: Annotated[int, Field(ge=0)] | None = None

    def command(self, launch: Launch) -> list[str]:
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
            *self.extra_args,
        ]
