"""Bytes of a weight and of a KV value, as a config.json and the engine's knobs state them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BF16 = 2.0
# Values of 4 bits share a scale of 8 bits: NVFP4 in blocks of 16 (NVIDIA Model Optimizer), MXFP4 of 32 (OCP
# Microscaling Formats 1.0, 2023).
NVFP4, MXFP4, FP8 = 0.5 + 1 / 16, 0.5 + 1 / 32, 1.0
DTYPES = {"float32": 4.0, "float": 4.0, "bfloat16": BF16, "float16": BF16, "half": BF16}
# As engines name methods that quantize while they load.
LOADED = {"fp8": FP8, "fp8_per_tensor": FP8, "fp8_per_block": FP8, "mxfp8": FP8, "w8a8_fp8": FP8}
FP8_CACHE = ("fp8", "int8")


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Bytes of a weight of the routed experts, of the other matrices, and of embeddings."""

    experts: float
    dense: float
    embeddings: float


def weight_bytes(
    config: Mapping[str, Any], *, dtype: str | None = None, quantization: str | None = None
) -> WeightBytes | None:
    """The least that engines keep. `dtype`, `quantization`: the engine's knobs. None: not known."""
    stored = dtype if dtype in DTYPES else config.get("torch_dtype") or config.get("dtype")
    plain = DTYPES.get(str(stored), BF16)
    how = config.get("quantization_config")
    if isinstance(how, Mapping):
        return _of_checkpoint(how, plain)
    if quantization is None:
        return WeightBytes(plain, plain, plain)
    loaded = LOADED.get(quantization)
    return None if loaded is None else WeightBytes(loaded, loaded, plain)


def _of_checkpoint(how: Mapping[str, Any], plain: float) -> WeightBytes | None:
    method = str(how.get("quant_method", "")).lower()
    algorithm = str(how.get("quant_algo", "")).upper()
    if method == "mxfp4":  # gpt-oss: its experts alone
        return WeightBytes(MXFP4, plain, plain)
    if method in ("modelopt", "modelopt_fp4") and "NVFP4" in algorithm:
        return WeightBytes(NVFP4, NVFP4, plain)
    if method == "fp8" or (method == "modelopt" and algorithm.startswith("FP8")):
        return WeightBytes(FP8, FP8, plain)
    bits = how.get("bits")
    if method in ("awq", "gptq") and isinstance(bits, int) and 1 <= bits <= 16:
        return WeightBytes(bits / 8, bits / 8, plain)
    return None


def kv_bytes(kv_dtype: str | None, plain: float) -> float:
    """Bytes of a KV value. `kv_dtype`: the engine's knob; `plain`: of the model's own data type."""
    named = (kv_dtype or "auto").lower()
    if named.startswith(FP8_CACHE):
        return FP8
    if "fp4" in named:
        return NVFP4
    return DTYPES.get(named, plain)
