"""The shape of a decoder as its config.json states it, and from it parameters and KV cache. Pure.

Formulas count the matrices of the published implementations (Hugging Face transformers, modeling_*.py of each
`model_type` below); norms and biases are left out, below 0.1 % of any model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Families whose formulas were compared with the published number of parameters (tests/serving/gpu/memory).
FAMILIES = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gpt_oss"}
    | {"deepseek_v2", "deepseek_v3", "kimi_k2"}
)


class _Config(BaseModel):
    """The fields of a config.json that count, under their own names."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: str
    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int = 0
    vocab_size: int = Field(gt=0)
    tie_word_embeddings: bool = False
    # Mixtures of experts: each family has its own word for their number.
    n_routed_experts: int | None = None
    num_local_experts: int | None = None
    num_experts: int | None = None
    moe_intermediate_size: int | None = None
    n_shared_experts: int | None = None
    first_k_dense_replace: int = 0
    # Multi-head latent attention.
    kv_lora_rank: int | None = None
    q_lora_rank: int | None = None
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    # Attention to the last tokens only, in these layers.
    sliding_window: int | None = None
    layer_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Architecture:
    """Numbers of parameters by what parallelism does with them, and what a token leaves in the KV cache.

    `kv_values`: per token and layer, all heads. `kv_heads`: over how many GPUs they can be split; 1 for latent
    attention, whose cache every GPU of a tensor parallel group holds whole. `window_layers`: of `layers`, those
    that keep `window_tokens` at most.
    """

    layers: int
    hidden: int
    intermediate: int
    attention: int
    dense: int  # of all layers: MLPs without experts, shared experts, routers
    experts: int  # routed
    embeddings: int
    kv_values: int
    kv_heads: int
    window_layers: int = 0
    window_tokens: int = 0

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.attention + self.dense + self.experts + self.embeddings


def architecture(config: Mapping[str, Any]) -> Architecture | None:
    """Of a config.json; None for families that are not known, and for what is no such file."""
    if isinstance(text := config.get("text_config"), Mapping):
        config = text
    try:
        read = _Config.model_validate(dict(config))
    except ValidationError:
        return None
    return _counted(read) if read.model_type in FAMILIES else None


def _counted(c: _Config) -> Architecture:
    experts = c.n_routed_experts or c.num_local_experts or c.num_experts or 0
    own = c.moe_intermediate_size or c.intermediate_size
    sparse = c.num_hidden_layers - c.first_k_dense_replace if experts else 0
    mlp = 3 * c.hidden_size
    dense = (c.num_hidden_layers - sparse) * mlp * c.intermediate_size
    dense += sparse * (mlp * own * (c.n_shared_experts or 0) + c.hidden_size * experts)
    attention, values, heads = _latent(c) if c.kv_lora_rank else _grouped(c)
    windows = c.layer_types.count("sliding_attention") if c.sliding_window else 0
    return Architecture(
        layers=c.num_hidden_layers,
        hidden=c.hidden_size,
        intermediate=c.intermediate_size if sparse < c.num_hidden_layers else own,
        attention=c.num_hidden_layers * attention,
        dense=dense,
        experts=sparse * experts * mlp * own,
        embeddings=c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2),
        kv_values=values,
        kv_heads=heads,
        window_layers=windows,
        window_tokens=c.sliding_window or 0,
    )


def _grouped(c: _Config) -> tuple[int, int, int]:
    """Of one layer: parameters, KV values per token, KV heads."""
    size = c.head_dim or c.hidden_size // c.num_attention_heads
    heads = c.num_key_value_heads or c.num_attention_heads
    parameters = 2 * c.hidden_size * size * (c.num_attention_heads + heads)
    return parameters, 2 * heads * size, heads


def _latent(c: _Config) -> tuple[int, int, int]:
    """As `_grouped`, for multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""
    rank, rope, heads = c.kv_lora_rank or 0, c.qk_rope_head_dim, c.num_attention_heads
    keys = heads * (c.qk_nope_head_dim + rope)
    queries = c.hidden_size * c.q_lora_rank + c.q_lora_rank * keys if c.q_lora_rank else (
        c.hidden_size * keys
    )  # fmt: skip
    cached = c.hidden_size * (rank + rope) + rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    return queries + cached + heads * c.v_head_dim * c.hidden_size, rank + rope, 1
