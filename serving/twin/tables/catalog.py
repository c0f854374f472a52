"""The models and systems that the twin knows, each figure with its source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CARD = "model card; shapes: config.json"
WHEEL = "aiconfigurator-core 0.12.0, systems/{}.yaml"
KV_BYTES: Mapping[str, int] = MappingProxyType({"bf16": 2, "fp8": 1})
WEIGHT_BYTES: Mapping[str, float] = MappingProxyType(
    {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 9 / 16, "mxfp4": 17 / 32, "int4": 9 / 16}
)
"""With their scales: one byte for each 16 (nvfp4) or 32 (mxfp4) weights, two for each 32 (int4)."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """An architecture. `checkpoints`: hub id → the precision of its weights."""

    key: str
    oracle_id: str
    """A hub id whose config.json the oracle has in itself."""
    checkpoints: Mapping[str, str]
    precisions: tuple[str, ...]
    """Of weights, that engines can make or find of this model."""
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    kv_values_per_token: int
    """That the cache keeps of each token of a long context, in all layers of one copy."""
    experts: int = 0
    experts_per_token: int = 0
    source: str = CARD

    @property
    def moe(self) -> bool:
        return self.experts > 0

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Of one whole copy of the cache, over all GPUs that share it."""
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


def _gqa(layers: int, kv_heads: int, head: int) -> int:
    return 2 * layers * kv_heads * head


def _mla(layers: int, latent: int = 512, rope: int = 64) -> int:
    return layers * (latent + rope)


def _model(  # noqa: PLR0913  (one row of a table)
    *,
    key: str,
    oracle_id: str,
    checkpoints: Mapping[str, str],
    precisions: tuple[str, ...],
    parameters: tuple[float, float],
    shape: tuple[int, int, int, int, int],
    kv_values_per_token: int,
    experts: tuple[int, int] = (0, 0),
) -> ModelFacts:
    """Parameters: all, active. Shape: layers, hidden, heads, KV heads, vocabulary. Experts: all, a token."""
    return ModelFacts(
        key,
        oracle_id,
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
                oracle_id="meta-llama/Meta-Llama-3.1-8B",
                checkpoints={
                    "meta-llama/Llama-3.1-8B-Instruct": "bf16",
                    "meta-llama/Meta-Llama-3.1-8B": "bf16",
                    "nvidia/Llama-3.1-8B-Instruct-FP8": "fp8",
                    "nvidia/Llama-3.1-8B-Instruct-FP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(8.03e9, 8.03e9),
                shape=(32, 4096, 32, 8, 128256),
                kv_values_per_token=_gqa(32, 8, 128),
            ),
            _model(
                key="qwen3-32b",
                oracle_id="Qwen/Qwen3-32B",
                checkpoints={
                    "Qwen/Qwen3-32B": "bf16",
                    "Qwen/Qwen3-32B-FP8": "fp8_block",
                    "nvidia/Qwen3-32B-FP4": "nvfp4",
                    "nvidia/Qwen3-32B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(32.8e9, 32.8e9),
                shape=(64, 5120, 64, 8, 151936),
                kv_values_per_token=_gqa(64, 8, 128),
            ),
            _model(
                key="llama-3.1-70b",
                oracle_id="meta-llama/Meta-Llama-3.1-70B",
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
                shape=(80, 8192, 64, 8, 128256),
                kv_values_per_token=_gqa(80, 8, 128),
            ),
            _model(
                key="deepseek-r1",
                oracle_id="deepseek-ai/DeepSeek-R1",
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
                shape=(61, 7168, 128, 1, 129280),
                kv_values_per_token=_mla(61),
                experts=(256, 8),
            ),
            _model(
                key="gpt-oss-120b",
                oracle_id="openai/gpt-oss-120b",
                checkpoints={"openai/gpt-oss-120b": "mxfp4"},
                precisions=("mxfp4",),
                parameters=(116.8e9, 5.1e9),
                shape=(36, 2880, 64, 8, 201088),
                # Every other layer has a window of 128 tokens.
                kv_values_per_token=_gqa(18, 8, 64),
                experts=(128, 4),
            ),
            _model(
                key="qwen3-30b-a3b",
                oracle_id="Qwen/Qwen3-30B-A3B",
                checkpoints={
                    "Qwen/Qwen3-30B-A3B": "bf16",
                    "Qwen/Qwen3-30B-A3B-Instruct-2507": "bf16",
                    "Qwen/Qwen3-30B-A3B-FP8": "fp8_block",
                    "nvidia/Qwen3-30B-A3B-FP4": "nvfp4",
                    "nvidia/Qwen3-30B-A3B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(30.5e9, 3.3e9),
                shape=(48, 2048, 32, 4, 151936),
                kv_values_per_token=_gqa(48, 4, 128),
                experts=(128, 8),
            ),
            _model(
                key="qwen3-235b-a22b",
                oracle_id="Qwen/Qwen3-235B-A22B",
                checkpoints={
                    "Qwen/Qwen3-235B-A22B": "bf16",
                    "Qwen/Qwen3-235B-A22B-Instruct-2507": "bf16",
                    "Qwen/Qwen3-235B-A22B-FP8": "fp8_block",
                    "nvidia/Qwen3-235B-A22B-FP4": "nvfp4",
                    "nvidia/Qwen3-235B-A22B-NVFP4": "nvfp4",
                },
                precisions=DENSE,
                parameters=(235e9, 22e9),
                shape=(94, 4096, 64, 4, 151936),
                kv_values_per_token=_gqa(94, 4, 128),
                experts=(128, 8),
            ),
            _model(
                key="minimax-m2.5",
                oracle_id="MiniMaxAI/MiniMax-M2.5",
                checkpoints={
                    "MiniMaxAI/MiniMax-M2.5": "fp8_block",
                    "nvidia/MiniMax-M2.5-NVFP4": "nvfp4",
                },
                precisions=("fp8_block", "nvfp4"),
                parameters=(230e9, 10e9),
                shape=(62, 3072, 48, 8, 200064),
                kv_values_per_token=_gqa(62, 8, 128),
                experts=(256, 8),
            ),
            _model(
                key="kimi-k2.5",
                oracle_id="moonshotai/Kimi-K2.5",
                checkpoints={"moonshotai/Kimi-K2.5": "int4", "nvidia/Kimi-K2.5-NVFP4": "nvfp4"},
                precisions=("int4", "nvfp4"),
                parameters=(1.04e12, 32e9),
                shape=(61, 7168, 64, 1, 163840),
                kv_values_per_token=_mla(61),
                experts=(384, 8),
            ),
            _model(
                key="qwen3.5-397b-a17b",
                oracle_id="Qwen/Qwen3.5-397B-A17B",
                checkpoints={
                    "Qwen/Qwen3.5-397B-A17B": "bf16",
                    "Qwen/Qwen3.5-397B-A17B-FP8": "fp8_block",
                    "nvidia/Qwen3.5-397B-A17B-NVFP4": "nvfp4",
                },
                precisions=("bf16", "fp8_block", "nvfp4"),
                parameters=(397e9, 17e9),
                shape=(60, 4096, 32, 2, 248320),
                # One layer in four has a cache; the others keep a state a request.
                kv_values_per_token=_gqa(15, 2, 256),
                experts=(512, 10),
            ),
            _model(
                key="glm-5",
                oracle_id="zai-org/GLM-5-FP8",
                checkpoints={
                    "zai-org/GLM-5": "bf16",
                    "zai-org/GLM-5-FP8": "fp8_block",
                    "nvidia/GLM-5-NVFP4": "nvfp4",
                },
                precisions=("fp8_block", "nvfp4"),
                parameters=(744e9, 40e9),
                shape=(78, 6144, 64, 1, 154880),
                # With the keys of the index that picks 2048 tokens.
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
    """The architecture and the precision of the weights of a hub id, or None."""
    wanted = hub_id.lower()
    for facts in MODELS.values():
        for known, weights in facts.checkpoints.items():
            if known.lower() == wanted:
                return facts, weights
    return None
