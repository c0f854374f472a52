"""NVIDIA's database of measured kernels (aiconfigurator-core), summed into the parts of a forward pass.

An optional extra (`pip install wattfront[twin]`): only building tables needs it.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from serving.twin.errors import NoData
from serving.twin.tables.steptime import Memory, TableKey

PROBE_TOKENS, PROBE_SEQUENCES = 4096, (1, 16)
"""The same tokens as one sequence or as 16: kernels whose time differs are attention."""
SHORT, LONG = 1024, 65536
LONG_CONTEXTS = 4096, 8192
TWO_BUDGETS = 16384, 32768

_ALIVE: dict[tuple[str, str], Any] = {}
# Keeps one engine of each, or the library would read its measurements again, which takes seconds.


@dataclass(frozen=True, slots=True)
class QuantModes:
    """Quantization modes by the database's names. `note`: what substitutes for what; empty if nothing does."""

    gemm: str
    moe: str
    kv: str
    attention: str
    note: str = ""


class KernelTimes:
    """Kernel times of one model, system, framework, precision and layout, in seconds."""

    def __init__(self, hub_id: str, key: TableKey, modes: QuantModes) -> None:
        """Raises NoData."""
        self.modes = modes
        self._silence()
        arguments = {
            "tp_size": key.tensor,
            "attention_dp_size": key.data,
            "moe_tp_size": max(1, key.gpus // key.expert),
            "moe_ep_size": key.expert,
            "gemm_quant_mode": modes.gemm,
            "moe_quant_mode": modes.moe,
            "kvcache_quant_mode": modes.kv,
            "fmha_quant_mode": modes.attention,
        }
        self._where = (hub_id, key.system, key.framework)
        self._arguments = arguments
        self._engine: Any = self._compiled()
        _ALIVE.setdefault((key.system, key.framework), self._engine)
        self.fused = False
        """Whether attention kernels include the projections (MLA modules)."""
        self._split()

    @staticmethod
    def _silence() -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        logging.getLogger("aiconfigurator_core").setLevel(logging.CRITICAL)

    def _compiled(self) -> Any:
        from aiconfigurator_core.sdk import EngineHandle

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return EngineHandle.compile(*self._where, **self._arguments)
            except (RuntimeError, ValueError, KeyError, AssertionError, NotImplementedError) as e:
                raise NoData(_line(e)) from e

    def _split(self) -> None:
        """Finds the attention kernels: those whose time depends on how tokens are split into sequences."""
        few, many = PROBE_SEQUENCES
        prompt = range(self._count(self._engine.evaluate_context_ops))
        decode = range(self._count(self._engine.evaluate_generation_ops))
        self._attention, self._shared, self._rows = list[int](), list[int](), list[int]()
        self._decode_attention, self._alone = list[int](), list[int]()
        names = set[str]()
        for i in prompt:
            ((name, one, *_),) = self._prompt_ops([i], few, PROBE_TOKENS // few)
            ((_, other, *_),) = self._prompt_ops([i], many, PROBE_TOKENS // many)
            names.add(name)
            if "logits" not in name:
                into = self._attention if abs(one - other) > 1e-6 * one else self._shared
                into.append(i)
        for i in decode:
            ((name, short, *_),) = self._decode_ops([i], few, SHORT)
            ((_, long, *_),) = self._decode_ops([i], few, LONG)
            (self._decode_attention if abs(short - long) > 1e-6 * short else self._alone).append(i)
            if "logits" in name:
                self._rows.append(i)
        self.fused = not any("qkv" in name for name in names)

    def _count(self, evaluate: Any) -> int:
        """How many kernels there are: the engine only reports that an index is out of range."""
        n = 0
        while True:
            try:
                evaluate([n], batch_size=1, s=64)
            except (IndexError, ValueError) as e:
                if n == 0 or "index" not in str(e):
                    raise NoData(_line(e)) from e
                return n
            except RuntimeError as e:
                raise NoData(_line(e)) from e
            n += 1

    def _prompt_ops(
        self, ops: Sequence[int], sequences: int, tokens: int, known: int = 0, x: int | None = None
    ) -> list[tuple[str, float, float, str]]:
        try:
            found: list[tuple[str, float, float, str]] = self._engine.evaluate_context_ops(
                list(ops), batch_size=sequences, s=tokens, prefix=known, x=x
            )
        except (RuntimeError, ValueError) as e:
            raise NoData(_line(e)) from e
        return found

    def _decode_ops(
        self, ops: Sequence[int], requests: int, context: int
    ) -> list[tuple[str, float, float, str]]:
        try:
            found: list[tuple[str, float, float, str]] = self._engine.evaluate_generation_ops(
                list(ops), batch_size=requests, s=context
            )
        except (RuntimeError, ValueError) as e:
            raise NoData(_line(e)) from e
        return found

    def shared_s(self, tokens: int) -> float:
        """Everything but attention and logits, of a step with prefill."""
        return _seconds(self._prompt_ops(self._shared, 1, tokens, x=tokens))

    def rows_s(self, rows: int) -> float:
        """The logits, over one row per sequence."""
        return _seconds(self._decode_ops(self._rows, rows, SHORT))

    def alone_s(self, decodes: int) -> float:
        """Everything but attention, of a decode step."""
        return _seconds(self._decode_ops(self._alone, decodes, SHORT))

    def decode_s(self, decodes: int, context: float) -> float:
        """Attention of requests that decode one token each, with `context` tokens in the cache."""
        return _seconds(self._decode_ops(self._decode_attention, decodes, max(1, round(context))))

    def context_s(self, tokens: int, attended: float) -> float:
        """Attention of `tokens` prompt tokens that attend to `attended` tokens on average.

        Taken as equal whole prompts, or as one chunk of a longer prompt where `attended` is too large for that.
        """
        if not self._attention:
            return 0.0
        prompts = tokens / (2 * attended)
        if prompts <= 1:
            known = max(0, round(attended - tokens / 2))
            return _seconds(self._prompt_ops(self._attention, 1, tokens, known))
        few, part = int(prompts), prompts % 1
        length = max(1, round(tokens / prompts))
        seconds = (1 - part) * _seconds(self._prompt_ops(self._attention, few, length))
        if part:
            seconds += part * _seconds(self._prompt_ops(self._attention, few + 1, length))
        return seconds

    def memory(self) -> Memory:
        """Memory of one GPU, by the database's model of each framework."""
        from aiconfigurator_core.sdk.memory import KVCacheEstimator

        arguments = {**self._arguments, "max_batch_size": 1}
        few, many = TWO_BUDGETS
        at = [
            KVCacheEstimator.from_request(
                *self._where, version(*self._where[1:]), max_num_tokens=tokens, **arguments
            ).breakdown
            for tokens in TWO_BUDGETS
        ]
        per_token = (at[1]["activations_bytes"] - at[0]["activations_bytes"]) / (many - few)
        per_kv, per_request = self._cache()
        return Memory(
            weights_bytes=at[0]["weights_bytes"],
            activation_bytes_base=at[0]["activations_bytes"] - per_token * few,
            activation_bytes_per_token=per_token,
            communication_bytes=at[0]["comm_overhead_bytes"],
            other_bytes=at[0]["runtime_overhead_bytes"],
            kv_bytes_per_token=per_kv,
            kv_bytes_per_request=per_request,
        )

    def _cache(self) -> tuple[float, float]:
        """Cache bytes per token and per request: the line through two long contexts."""
        from aiconfigurator_core.sdk.config_builders import build_model_config
        from aiconfigurator_core.sdk.models import get_model

        arguments = {**self._arguments, "pp_size": 1}
        model = get_model(self._where[0], build_model_config(**arguments), self._where[2])
        short, long = LONG_CONTEXTS
        at_short = float(model.get_kvcache_bytes_per_sequence(short))
        at_long = float(model.get_kvcache_bytes_per_sequence(long))
        per_token = (at_long - at_short) / (long - short)
        return per_token, max(0.0, at_short - per_token * short)


@lru_cache
def version(system: str, framework: str) -> str:
    """The version of the framework whose kernels were measured."""
    from aiconfigurator_core.sdk import perf_database

    found = perf_database.resolve_query_version(system, framework, "current")
    return str(found)


@lru_cache
def source() -> str:
    """The database and its version."""
    from importlib import metadata

    return f"aiconfigurator-core {metadata.version('aiconfigurator-core')}"


def _seconds(ops: Iterable[tuple[str, float, float, str]]) -> float:
    return sum(op[1] for op in ops) / 1e3


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
