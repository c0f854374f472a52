"""torch.compile and CUDA graphs as knobs, and what they are in vLLM and SGLang. Pure.

TensorRT-LLM has `cuda_graph_config` of its own. Names of vLLM's JSON are those of `CompilationConfig` and its
`PassConfig` in 0.32.0; SGLang's flags are the same in 0.5.22 and 0.5.23.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serving.engines.flags.structured import Structured
from serving.topology import Positive

Words = dict[str, str | int | bool | tuple[int, ...] | None]
Sizes = tuple[Positive, ...]
Graphs = Literal["full", "breakable", "disabled"]
FUSIONS = ("fuse_allreduce_rms", "fuse_norm_quant", "fuse_act_quant", "fuse_attn_quant")
# Knob → key of vLLM's JSON.
KEYS = {
    "mode": "mode",
    "cudagraph_mode": "cudagraph_mode",
    "cudagraph_max_size": "max_cudagraph_capture_size",
    "cudagraph_sizes": "cudagraph_capture_sizes",
}


class _Compilation(Structured):
    """What both have."""

    cudagraph_max_size: Positive | None = Field(
        default=None,
        description="largest batch that runs as a CUDA graph: of vLLM in tokens, of SGLang in decodes",
    )
    cudagraph_sizes: Sizes | None = Field(
        default=None, min_length=1, description="the batches that are captured; unset: a series"
    )

    @model_validator(mode="after")
    def _one_largest(self) -> Self:
        sizes, largest = self.cudagraph_sizes, self.cudagraph_max_size
        if sizes and largest is not None and largest != max(sizes):
            raise ValueError(
                f"cudagraph_max_size {largest} is not the largest of cudagraph_sizes, which is "
                f"{max(sizes)}: set one of them"
            )
        return self


class VllmCompilation(_Compilation):
    """vLLM's `-O3` and `--compilation-config`."""

    unset_means: ClassVar[Mapping[str, object]] = {"level": 2}  # 0.29 to 0.33
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {"cudagraph_mode", "cudagraph_max_size", "cudagraph_sizes"}
    )

    level: Literal[0, 1, 2, 3] | None = Field(
        default=None,
        description="set of defaults for all these: 0 compiles and captures nothing, to start fast; unset: 2",
    )
    mode: Literal["NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE"] | None = (
        Field(default=None, description="how torch.compile is used; unset: as the level says")
    )
    cudagraph_mode: (
        Literal["NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"] | None
    ) = Field(
        default=None,
        description="what runs as CUDA graphs; unset: by level and model, mostly FULL_AND_PIECEWISE",
    )
    fuse_allreduce_rms: bool | None = Field(
        default=None, description="fuse all-reduce and normalization (FlashInfer); unset: by level"
    )
    fuse_norm_quant: bool | None = Field(
        default=None, description="fuse normalization and quantization; unset: by level"
    )
    fuse_act_quant: bool | None = Field(
        default=None, description="fuse activation and quantization; unset: by level"
    )
    fuse_attn_quant: bool | None = Field(
        default=None, description="fuse attention and quantization; unset: by level"
    )


class SgLangCompilation(_Compilation):
    """SGLang's CUDA graphs, of decodes and of prefills."""

    unset_means: ClassVar[Mapping[str, object]] = {"cudagraph_padding": True}
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {
            *("cudagraph_decode", "cudagraph_prefill", "cudagraph_max_size", "cudagraph_sizes"),
            *("cudagraph_prefill_max_tokens", "cudagraph_padding"),
        }
    )

    cudagraph_decode: Graphs | None = Field(
        default=None, description="how decodes run as CUDA graphs; unset: by GPU and model"
    )
    cudagraph_prefill: Graphs | None = Field(
        default=None, description="how prefills run as CUDA graphs; unset: by GPU and model"
    )
    cudagraph_prefill_max_tokens: Positive | None = Field(
        default=None, description="most tokens of a prefill that runs as a CUDA graph"
    )
    cudagraph_padding: bool | None = Field(
        default=None, description="pad a batch to the next captured size; unset: true"
    )


def vllm(compilation: VllmCompilation | None) -> Words:
    """Nothing for the defaults."""
    plain = compilation and compilation.canonical()
    if plain is None:
        return {}
    found: dict[str, Any] = {key: getattr(plain, knob) for knob, key in KEYS.items()}
    passes = {name: getattr(plain, name) for name in FUSIONS}
    found["pass_config"] = {k: v for k, v in passes.items() if v is not None} or None
    kept = {key: value for key, value in found.items() if value is not None}
    # 0.32 takes no level by its name, as in --optimization-level O3.
    return {
        f"-O{plain.level}": plain.level is not None,
        "--compilation-config": json.dumps(kept) if kept else None,
    }


def sglang(compilation: SgLangCompilation | None) -> Words:
    """Nothing for the defaults."""
    plain = compilation and compilation.canonical()
    if plain is None:
        return {}
    return {
        "--cuda-graph-backend-decode": plain.cudagraph_decode,
        "--cuda-graph-backend-prefill": plain.cudagraph_prefill,
        "--cuda-graph-max-bs-decode": plain.cudagraph_max_size,
        "--cuda-graph-max-bs-prefill": plain.cudagraph_prefill_max_tokens,
        "--cuda-graph-bs-decode": plain.cudagraph_sizes,
        "--disable-cuda-graph-padding": plain.cudagraph_padding is False,
    }
