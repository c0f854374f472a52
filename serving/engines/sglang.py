"""SGLang (`sglang serve`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serving.endpoint import CacheReset
from serving.engines.base import BaseEngine, Launch, Value, flags
from serving.engines.deaths.model import DeathTable
from serving.engines.deaths.sglang import SGLANG
from serving.engines.flags import compilation, kv_transfer, layouts, speculation
from serving.engines.flags.compilation import SgLangCompilation
from serving.engines.flags.kv_transfer import SgLangKvTransfer
from serving.engines.flags.speculation import SgLangSpeculation
from serving.errors import LaunchError
from serving.process.environ import HUB_TOKENS
from serving.telemetry.engine_metrics import names, startup
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupLines
from serving.topology import Positive, Topology

Fraction = Annotated[float, Field(gt=0, lt=1)]
APART = ("attn_dp_size", "speculation", "compilation", "kv_transfer")


class SgLang(BaseEngine):
    """Knobs as in `sglang serve --help`.

    An `executable` that is a Python runs the older `-m sglang.launch_server`.
    """

    default_executable: ClassVar[str] = "sglang"
    framework: ClassVar[str] = "sglang"
    packages: ClassVar[tuple[str, ...]] = ("sglang",)
    version_at: ClassVar[tuple[str, str]] = ("/server_info", "version")
    # Has the scheduler generate a token.
    health_path: ClassVar[str] = "/health_generate"
    metrics_page: ClassVar[MetricsPage] = names.SGLANG
    cache_reset: ClassVar[CacheReset | None] = CacheReset("/flush_cache")
    startup_lines: ClassVar[StartupLines] = startup.SGLANG
    inherits: ClassVar[tuple[str, ...]] = ("SGLANG_*", "SGL_*", "DEEP_*")
    secrets: ClassVar[tuple[str, ...]] = HUB_TOKENS
    deaths: ClassVar[DeathTable] = SGLANG
    memory_knob: ClassVar[str] = "mem_fraction_static"
    meanings: ClassVar[Mapping[str, str]] = {
        "max_running_requests": "max_sequences",
        "chunked_prefill_size": "step_tokens",
        "mem_fraction_static": "memory_fraction",
    }
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {
            "mem_fraction_static",
            "max_running_requests",
            "max_total_tokens",
            "max_prefill_tokens",
            "chunked_prefill_size",
            "schedule_policy",
            "schedule_conservativeness",
            "attn_dp_size",
            "page_size",
            "stream_interval",
            "enable_mixed_chunk",
            "disable_overlap_schedule",
            "disable_radix_cache",
            "disable_decode_cuda_graph",
            "kv_transfer",
        }
    )
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
    speculation: SgLangSpeculation | None = Field(
        default=None, description="speculative decoding; unset: none"
    )
    compilation: SgLangCompilation | None = Field(
        default=None, description="CUDA graphs; unset: SGLang's defaults"
    )
    kv_transfer: SgLangKvTransfer | None = Field(
        default=None, description="transfer of KV caches out of the engine and into it; unset: none"
    )

    @model_validator(mode="after")
    def _one_spelling(self) -> Self:
        graphs = self.compilation and self.compilation.cudagraph_decode
        if self.disable_decode_cuda_graph and graphs not in (None, "disabled"):
            raise ValueError(
                f"disable_decode_cuda_graph contradicts compilation.cudagraph_decode={graphs}: set one"
            )
        return self

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

    def refuses(self, topology: Topology, served_model: str) -> str:
        """SGLang also refuses a colon in the served name."""
        if ":" in served_model:
            return f"SGLang allows no colon in model.name, which is {served_model}"
        return super().refuses(topology, served_model)

    def environ(self, launch: Launch) -> dict[str, str]:
        """On CPU also the switch that its backend needs beside `--device cpu`."""
        own = {"SGLANG_USE_CPU_ENGINE": "1"} if launch.topology.cpus else {}
        return {**own, **super().environ(launch)}

    def command(self, launch: Launch) -> list[str]:
        """`sglang serve`, or `python -m sglang.launch_server`."""
        topology = launch.topology
        drafts = self.speculation if self.speculation and self.speculation.active else None
        python = Path(launch.executable).name.startswith("python")
        prefill = self.kv_transfer is not None and self.kv_transfer.role == "prefill"
        meeting = launch.transfer_port if prefill else 0
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
                    "--enable-metrics": True,
                    **layouts.sglang(topology, self.attn_dp_size),
                    **(speculation.sglang(drafts) if drafts else {}),
                    **compilation.sglang(self.compilation),
                    **kv_transfer.sglang(self.kv_transfer),
                    **({"--disaggregation-bootstrap-port": meeting} if meeting else {}),
                }
            ),
            *self.knobs(without=APART),
            *self.flag_words(launch),
            *self.extra_args,
        ]
