"""The least GPU memory of a layout: weights, KV cache of one request, activations of a step. Pure.

It is a lower bound of what engines take: CUDA contexts, graphs, workspaces and fragmentation come on top.
"""

from dataclasses import dataclass

from serving.gpu.memory.architecture import Architecture
from serving.gpu.memory.precision import WeightBytes

GIB = 2**30
# A layout is refused only if so large an error of the estimate would not make it fit.
MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Split:
    """Over how many GPUs each part of a model is divided.

    `attention`: differs from `dense` under data parallel attention. `stages`: of the pipeline.
    """

    attention: int
    dense: int
    experts: int
    stages: int = 1


@dataclass(frozen=True, slots=True)
class Need:
    """Of the average GPU, in bytes."""

    weights: float
    kv_cache: float
    activations: float

    @property
    def bytes(self) -> float:
        """All of it."""
        return self.weights + self.kv_cache + self.activations

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("KV cache of one request", self.kv_cache),
            ("activations", self.activations),
        )
        each = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
        return f"{self.bytes / GIB:.0f} GiB a GPU ({each})"


def needed(
    model: Architecture,
    weights: WeightBytes,
    split: Split,
    *,
    kv_value_bytes: float,
    request_tokens: int,
    step_tokens: int = 0,
) -> Need:
    """Tokens of the longest request, prompt and output, and of the largest step (0: unknown)."""
    held = (
        model.attention * weights.dense / split.attention
        + model.dense * weights.dense / split.dense
        + model.experts * weights.experts / split.experts
        + model.embeddings * weights.embeddings / split.dense
    )
    whole = model.layers - model.window_layers
    windows = model.window_layers * min(request_tokens, model.window_tokens)
    tokens = whole * request_tokens + windows
    values = model.kv_values / min(split.attention, model.kv_heads)
    step = min(step_tokens, request_tokens) if step_tokens else 0
    # The residual stream and the block's input, and the two halves of a gated MLP; bfloat16.
    activations = step * (2 * model.hidden + 2 * model.intermediate / split.dense) * 2
    return Need(
        held / split.stages, tokens * values * kv_value_bytes / split.stages, float(activations)
    )


def can_hold(need: Need, memory_bytes: float, fraction: float) -> bool:
    """Whether a GPU may hold it, with `MARGIN`. `fraction`: of its memory that the engine may use."""
    return need.bytes * (1 - MARGIN) <= memory_bytes * fraction
