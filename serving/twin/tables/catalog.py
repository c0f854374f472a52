"""Models and GPU systems that the twin knows, with the source of every figure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CARD = "model card; shapes: config.json"
WHEEL = "aiconfigurator-core 0.12.0, systems/{}.yaml"
KV_BYTES: Mapping[str, int] = MappingProxyType({"bf16": 2, "fp8": 1})
WEIGHT_BYTES: Mapping[str, float] = MappingProxyType(
    {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 9 / 16, "mxfp4": 17 / 32, "int4": 9 / 16}
)
"""Per weight, scales included: one byte per 16 (nvfp4) or 32 (mxfp4) weights, two per 32 (int4)."""
_PEAK = {"bf16": "bf16", "nvfp4": "fp4", "int4": "bf16", "mxfp4": "fp8"}  # else fp8


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """An architecture. `checkpoints`: hub id → precision of its weights."""

    key: str
    database_id: str
    """A hub id whose config.json the kernel database ships."""
    checkpoints: Mapping[str, str]
    precisions: tuple[str, ...]
    """Precisions of weights that are published or that engines can quantize to."""
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    kv_values_per_token: int
    """Values cached per token of a long context: all layers, one copy."""
    experts: int = 0
    experts_per_token: int = 0
    source: str = CARD

    @property
    def moe(self) -> bool:
        """Whether it is a mixture of experts."""
        return self.experts > 0

    def kv_bytes_per_token(self, dtype: str) -> int:
        """KV cache bytes per token of one whole copy, over all GPUs that share it."""
        return self.kv_values_per_token * KV_BYTES[dtype]


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """One GPU of a system. FLOP/s are dense."""

    key: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    flops_per_s: Mapping[str, float] = field(default_factory=dict)
    power_cap_w: float = 0.0
    source: str = ""

    def peak_flop_s(self, weights: str) -> float:
        """Dense FLOP/s at the precision that weights of this format compute in; the highest if unknown."""
        peaks = self.flops_per_s
        return peaks.get(_PEAK.get(weights, "fp8"), max(peaks.values()))


def _gqa(layers: int, kv_heads: int, head: int) -> int:
    return 2 * layers * kv_heads * head


def _mla(layers: int, latent: int = 512, rope: int = 64) -> int:
    return layers * (latent + rope)


def _model(  # noqa: PLR0913  (one row of a table)
    *,
    key: str,
    database_id: str,
    checkpoints: Mapping[str, str],
    precisions: tuple[str, ...],
    parameters: tuple[float, float],
    shape: tuple[int, int],
    kv_values_per_token: int,
    experts: tuple[int, int] = (0, 0),
) -> ModelFacts:
    """Parameters: total, active. Shape: layers, hidden size. Experts: total, per token."""
    return ModelFacts(
        key,
        database_id,
        MappingProxyType(dict(checkpoints)),
        precisions,
        *parameters,
        *shape,
        kv_values_per_token,
        *experts,
    )


DENSE = ("bf16", "fp8", "fp8_block", "nvfp4")
MODELS: Mapping[str, ModelFacts] = MappingProxyType(
    {
        facts.key: facts
        for facts in (
            _model(
                key="llama-3.1-8b",
                database_id="meta-llama/Meta-Llama-3.1-8B",
                checkpoints={
                    "meta-llama/Llama-3.1-8B-Instruct": "bf16",
                    "meta-llama/Meta-Llama-3.1-8B": "bf16",
                    "nvidia/Llama-3.1-8B-Instruct-FP8": "fp8",
                    "nvidia/Llama-3.1-8B-Instruct-FP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(8.03e9, 8.03e9),
                shape=(32, 4096),
                kv_values_per_token=_gqa(32, 8, 128),
            ),
            _model(
                key="qwen3-32b",
                database_id="Qwen/Qwen3-32B",
                checkpoints={
                    "Qwen/Qwen3-32B": "bf16",
                    "Qwen/Qwen3-32B-FP8": "fp8_block",
                    "nvidia/Qwen3-32B-FP4": "nvfp4",
                    "nvidia/Qwen3-32B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(32.8e9, 32.8e9),
                shape=(64, 5120),
                kv_values_per_token=_gqa(64, 8, 128),
            ),
            _model(
                key="llama-3.1-70b",
                database_id="meta-llama/Meta-Llama-3.1-70B",
                checkpoints={
                    "meta-llama/Llama-3.3-70B-Instruct": "bf16",
                    "meta-llama/Llama-3.1-70B-Instruct": "bf16",
                    "meta-llama/Llama-3.1-70B": "bf16",
                    "meta-llama/Meta-Llama-3.1-70B": "bf16",
                    "nvidia/Llama-3.3-70B-Instruct-FP8": "fp8",
                    "nvidia/Llama-3.1-70B-Instruct-FP8": "fp8",
                    "nvidia/Llama-3.3-70B-Instruct-FP4": "nvfp4",
                    "nvidia/Llama-3.3-70B-Instruct-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(70.6e9, 70.6e9),
                shape=(80, 8192),
                kv_values_per_token=_gqa(80, 8, 128),
            ),
            _model(
                key="deepseek-r1",
                database_id="deepseek-ai/DeepSeek-R1",
                checkpoints={
                    "deepseek-ai/DeepSeek-R1": "fp8_block",
                    "deepseek-ai/DeepSeek-R1-0528": "fp8_block",
                    "deepseek-ai/DeepSeek-V3": "fp8_block",
                    "deepseek-ai/DeepSeek-V3-0324": "fp8_block",
                    "deepseek-ai/DeepSeek-V3.1": "fp8_block",
                    "nvidia/DeepSeek-R1-FP4": "nvfp4",
                    "nvidia/DeepSeek-R1-NVFP4": "nvfp4",
                    "nvidia/DeepSeek-R1-0528-NVFP4": "nvfp4",
                    "nvidia/DeepSeek-V3.1-NVFP4": "nvfp4",
                },
                precisions=("fp8_block", "nvfp4"),
                parameters=(671e9, 37e9),
                shape=(61, 7168),
                kv_values_per_token=_mla(61),
                experts=(256, 8),
            ),
            _model(
                key="gpt-oss-120b",
                database_id="openai/gpt-oss-120b",
                checkpoints={"openai/gpt-oss-120b": "mxfp4"},
                precisions=("mxfp4",),
                parameters=(116.8e9, 5.1e9),
                shape=(36, 2880),
                # Every other layer has a window of 128 tokens.
                kv_values_per_token=_gqa(18, 8, 64),
                experts=(128, 4),
            ),
            _model(
                key="qwen3-30b-a3b",
                database_id="Qwen/Qwen3-30B-A3B",
                checkpoints={
                    "Qwen/Qwen3-30B-A3B": "bf16",
                    "Qwen/Qwen3-30B-A3B-Instruct-2507": "bf16",
                    "Qwen/Qwen3-30B-A3B-FP8": "fp8_block",
                    "nvidia/Qwen3-30B-A3B-FP4": "nvfp4",
                    "nvidia/Qwen3-30B-A3B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(30.5e9, 3.3e9),
                shape=(48, 2048),
                kv_values_per_token=_gqa(48, 4, 128),
                experts=(128, 8),
            ),
            _model(
                key="qwen3-235b-a22b",
                database_id="Qwen/Qwen3-235B-A22B",
                checkpoints={
                    "Qwen/Qwen3-235B-A22B": "bf16",
                    "Qwen/Qwen3-235B-A22B-Instruct-2507": "bf16",
                    "Qwen/Qwen3-235B-A22B-FP8": "fp8_block",
                    "nvidia/Qwen3-235B-A22B-FP4": "nvfp4",
                    "nvidia/Qwen3-235B-A22B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(235e9, 22e9),
                shape=(94, 4096),
                kv_values_per_token=_gqa(94, 4, 128),
                experts=(128, 8),
            ),
            _model(
                key="minimax-m2.5",
                database_id="MiniMaxAI/MiniMax-M2.5",
                checkpoints={
                    "MiniMaxAI/MiniMax-M2.5": "fp8_block",
                    "nvidia/MiniMax-M2.5-NVFP4": "nvfp4",
                },
                precisions=("fp8_block", "nvfp4"),
                parameters=(230e9, 10e9),
                shape=(62, 3072),
                kv_values_per_token=_gqa(62, 8, 128),
                experts=(256, 8),
            ),
            _model(
                key="kimi-k2.5",
                database_id="moonshotai/Kimi-K2.5",
                checkpoints={"moonshotai/Kimi-K2.5": "int4", "nvidia/Kimi-K2.5-NVFP4": "nvfp4"},
                precisions=("int4", "nvfp4"),
                parameters=(1.04e12, 32e9),
                shape=(61, 7168),
                kv_values_per_token=_mla(61),
                experts=(384, 8),
            ),
            _model(
                key="qwen3.5-397b-a17b",
                database_id="Qwen/Qwen3.5-397B-A17B",
                checkpoints={
                    "Qwen/Qwen3.5-397B-A17B": "bf16",
                    "Qwen/Qwen3.5-397B-A17B-FP8": "fp8_block",
                    "nvidia/Qwen3.5-397B-A17B-NVFP4": "nvfp4",
                },
                precisions=("bf16", "fp8_block", "nvfp4"),
                parameters=(397e9, 17e9),
                shape=(60, 4096),
                # One layer in four has a KV cache; the others keep a fixed state per request.
                kv_values_per_token=_gqa(15, 2, 256),
                experts=(512, 10),
            ),
            _model(
                key="glm-5",
                database_id="zai-org/GLM-5-FP8",
                checkpoints={
                    "zai-org/GLM-5": "bf16",
                    "zai-org/GLM-5-FP8": "fp8_block",
                    "nvidia/GLM-5-NVFP4": "nvfp4",
                },
                precisions=("fp8_block", "nvfp4"),
                parameters=(744e9, 40e9),
                shape=(78, 6144),
                # Includes the keys of the sparse-attention indexer, which picks 2048 tokens.
                kv_values_per_token=_mla(78) + 78 * 128,
                experts=(256, 8),
            ),
        )
    }
)


def _system(key: str, memory: int, bandwidth: float, power: float, **flops: float) -> SystemFacts:
    return SystemFacts(key, memory, bandwidth, MappingProxyType(flops), power, WHEEL.format(key))


SYSTEMS: Mapping[str, SystemFacts] = MappingProxyType(
    {
        "b300_sxm": _system(
            "b300_sxm", 288_400_343_040, 7.75e12, 1100, bf16=2.25e15, fp8=4.5e15, fp4=14e15
        ),
        "b200_sxm": _system(
            "b200_sxm", 193_273_528_320, 7.7e12, 1000, bf16=2.25e15, fp8=4.5e15, fp4=9e15
        ),
        "h200_sxm": _system("h200_sxm", 151_397_597_184, 4.8e12, 700, bf16=0.989e15, fp8=1.978e15),
    }
)


def checkpoint(hub_id: str) -> tuple[ModelFacts, str] | None:
    """The architecture and weight precision of a hub id, or None."""
    wanted = hub_id.lower()
    for facts in MODELS.values():
        for known, weights in facts.checkpoints.items():
            if known.lower() == wanted:
                return facts, weights
    return None
