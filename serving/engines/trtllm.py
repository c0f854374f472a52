"""TensorRT-LLM (`trtllm-serve`), PyTorch backend."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serving.engines.base import BaseEngine, Launch, Value, flags
from serving.engines.deaths.model import DeathTable
from serving.engines.deaths.trtllm import TRTLLM
from serving.engines.flags import kv_transfer, layouts, speculation
from serving.engines.flags.kv_transfer import TrtLlmKvTransfer
from serving.engines.flags.speculation import TrtLlmSpeculation
from serving.process.environ import HUB_TOKENS
from serving.telemetry.engine_metrics import names
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.topology import Positive, Strict

Fraction = Annotated[float, Field(gt=0, le=1)]


GRAPHS = 128  # the largest batch of decodes that is captured by default
IN_YAML = (
    *("cuda_graph_config", "kv_cache_config", "enable_attention_dp", "speculation"),
    *("llm_options", "kv_transfer"),
)


class CudaGraphs(Strict):
    """`cuda_graph_config` of TensorRT-LLM's YAML."""

    max_batch_size: Positive | None = Field(
        default=None, description="largest batch of decodes that runs as a CUDA graph; unset: 128"
    )
    enable_padding: bool | None = Field(
        default=None, description="pad a batch to the next captured size"
    )


class KvCache(Strict):
    """`kv_cache_config` of TensorRT-LLM's YAML."""

    dtype: Literal["auto", "fp8", "nvfp4"] | None = Field(
        default=None, description="data type of the KV cache; unset: auto"
    )
    enable_block_reuse: bool | None = Field(
        default=None, description="reuse the KV cache of common prefixes; unset: true"
    )
    tokens_per_block: Positive | None = Field(
        default=None, description="tokens in a block of the KV cache"
    )


class TrtLlm(BaseEngine):
    """Knobs as in `trtllm-serve serve --help`.

    Options that exist only in its YAML are written into a file of each trial.
    """

    default_executable: ClassVar[str] = "trtllm-serve"
    framework: ClassVar[str] = "trtllm"
    packages: ClassVar[tuple[str, ...]] = ("tensorrt-llm", "tensorrt_llm")
    version_at: ClassVar[tuple[str, str]] = ("/version", "version")
    typical_start_s: ClassVar[float] = 180.0
    metrics_page: ClassVar[MetricsPage] = names.TRTLLM
    inherits: ClassVar[tuple[str, ...]] = ("TRTLLM_*", "TLLM_*", "TRT_LLM_*")
    secrets: ClassVar[tuple[str, ...]] = HUB_TOKENS
    deaths: ClassVar[DeathTable] = TRTLLM
    meanings: ClassVar[Mapping[str, str]] = {
        "max_batch_size": "max_sequences",
        "max_num_tokens": "step_tokens",
        "kv_cache_free_gpu_memory_fraction": "memory_fraction",
    }
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {
            "max_batch_size",
            "max_num_tokens",
            "kv_cache_free_gpu_memory_fraction",
            "enable_chunked_prefill",
            "num_postprocess_workers",
            "cuda_graph_config",
            "enable_attention_dp",
            "kv_transfer",
        }
    )
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
    cuda_graph_config: CudaGraphs = Field(
        default=CudaGraphs(), description="CUDA graphs of decodes, in the YAML"
    )
    kv_cache_config: KvCache = Field(default=KvCache(), description="the KV cache, in the YAML")
    enable_attention_dp: bool | None = Field(
        default=None,
        description="each rank attends for its own requests, in the YAML; unset: as the topology says",
    )
    speculation: TrtLlmSpeculation | None = Field(
        default=None, description="speculative decoding, in the YAML; unset: none"
    )
    kv_transfer: TrtLlmKvTransfer | None = Field(
        default=None,
        description="transfer of KV caches out of the engine and into it, in the YAML; unset: none",
    )
    llm_options: dict[str, Any] = Field(
        default_factory=dict,
        description="further keys of the YAML of LLM API options, as nested there",
    )
    extra_llm_api_options: str | None = Field(
        default=None,
        description="path on every node of a whole YAML of LLM API options, in place of one for each trial",
    )

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if self.extra_llm_api_options is not None and self._yaml(attention_dp=False):
            raise ValueError(
                "extra_llm_api_options is a whole YAML, and can't be combined with "
                f"{', '.join(IN_YAML)}: move its contents to llm_options"
            )
        return self

    def _yaml(self, *, attention_dp: bool) -> dict[str, Any]:
        cache = self.kv_cache_config.model_dump(exclude_none=True)
        if cache and self.kv_cache_free_gpu_memory_fraction is not None:
            # This section of the YAML takes the place of the flag.
            cache["free_gpu_memory_fraction"] = self.kv_cache_free_gpu_memory_fraction
        drafts = self.speculation if self.speculation and self.speculation.active else None
        found: dict[str, Any] = {
            "cuda_graph_config": self.cuda_graph_config.model_dump(exclude_none=True),
            "kv_cache_config": cache,
            "enable_attention_dp": attention_dp or bool(self.enable_attention_dp),
            "speculative_config": drafts and speculation.trtllm(drafts),
            **kv_transfer.trtllm(self.kv_transfer),
        }
        return {**{key: value for key, value in found.items() if value}, **self.llm_options}

    def canonical(self, *, literal: bool = True) -> Self:
        """Also by the defaults of its YAML, in 1.2 and 1.3."""
        graphs, cache = self.cuda_graph_config, self.kv_cache_config
        if graphs.max_batch_size == GRAPHS:
            graphs = graphs.model_copy(update={"max_batch_size": None})
        if cache.dtype == "auto":
            cache = cache.model_copy(update={"dtype": None})
        if cache.enable_block_reuse:
            cache = cache.model_copy(update={"enable_block_reuse": None})
        plain = super().canonical(literal=literal)
        return plain.model_copy(update={"cuda_graph_config": graphs, "kv_cache_config": cache})

    def options(self, launch: Launch) -> str:
        """Its YAML, as JSON."""
        _, attention_dp = layouts.trtllm(launch.topology)
        found = self._yaml(attention_dp=attention_dp)
        return json.dumps(found) if found else ""

    def served_name(self, launch: Launch) -> str:
        """Versions without `--served_model_name` list the folder's name, or the id as given."""
        if _takes_name(self, launch):
            return launch.served_model
        path = Path(launch.model_path)
        return path.name if path.is_dir() else launch.model_path

    def command(self, launch: Launch) -> list[str]:
        """`trtllm-serve serve MODEL`."""
        words, _ = layouts.trtllm(launch.topology)
        options = self.options(launch)
        shown = f"<(echo {shlex.quote(options)})" if options else None
        return [
            launch.executable,
            "serve",
            launch.model_path,
            *flags(
                {
                    # In 1.3 an alias of `--hf_revision`.
                    "--revision": launch.revision,
                    "--served_model_name": launch.served_model
                    if _takes_name(self, launch)
                    else None,
                    "--host": launch.host,
                    "--port": launch.port,
                    "--max_seq_len": launch.context_tokens,
                    **words,
                    "--config": (launch.options_path or shown) if options else None,
                }
            ),
            *self.knobs(separator="_", without=IN_YAML),
            *self.flag_words(launch),
            *self.extra_args,
        ]


def _takes_name(engine: TrtLlm, launch: Launch) -> bool:
    known = engine.known_flags(launch.version)
    return known is None or known.schema.find("served_model_name") is not None
