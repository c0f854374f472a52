"""NVIDIA's database of measured kernels, in parts of one forward pass: the only file that knows it.

An optional extra (`pip install wattfront[twin]`): it builds the tables that we ship, and others.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from serving.twin.tables.steptime import Memory, TableKey

PROBE_TOKENS, PROBE_SEQUENCES = 4096, (1, 16)
"""Same tokens in other sequences: what takes another time then is attention."""
SHORT, LONG = 1024, 65536
LONG_CONTEXTS = 4096, 8192
SOME_BUDGETS = 16384, 32768

_ALIVE: dict[tuple[str, str], Any] = {}
# The measurements are read again, which takes seconds, when no engine is left that uses them.


class NoData(Exception):
    """The database has no measurements for this: a normal result. One line that says for what."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Quantisations as the database names them; `note` is not empty where one stands in for
    another."""

    gemm: str
    moe: str
    kv: str
    attention: str
    note: str = ""


class Oracle:
    """One model, system, framework, precision and layout. All times are in seconds."""

    def __init__(self, hub_id: str, key: TableKey, modes: Modes) -> None:
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
        """Whether the attention's kernels include its projections (MLA modules)."""
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
        """Which kernels are attention: those whose time depends on how tokens form sequences."""
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
        """The engine doesn't tell how many kernels it has, only that an index is out of range."""
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
        """Everything but attention and vocabulary, of a step with prompt tokens."""
        return _seconds(self._prompt_ops(self._shared, 1, tokens, x=tokens))

    def rows_s(self, rows: int) -> float:
        """The vocabulary, over one row a sequence."""
        return _seconds(self._decode_ops(self._rows, rows, SHORT))

    def alone_s(self, decodes: int) -> float:
        """Everything but attention, of a step of decodes only."""
        return _seconds(self._decode_ops(self._alone, decodes, SHORT))

    def decode_s(self, decodes: int, context: float) -> float:
        """Attention of requests that decode one token each, after `context` tokens."""
        return _seconds(self._decode_ops(self._decode_attention, decodes, max(1, round(context))))

    def context_s(self, tokens: int, attended: float) -> float:
        """Attention of `tokens` prompt tokens that attend to `attended` others on average.

        As many whole prompts as that makes, or one chunk after what is known already.
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
        """By the database's own model of each framework's memory, for one GPU."""
        from aiconfigurator_core.sdk.memory import KVCacheEstimator

        arguments = {**self._arguments, "max_batch_size": 1}
        few, many = SOME_BUDGETS
        at = [
            KVCacheEstimator.from_request(
                *self._where, version(*self._where[1:]), max_num_tokens=tokens, **arguments
            ).breakdown
            for tokens in SOME_BUDGETS
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
        """Bytes a token and bytes a request: the line through two long contexts."""
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
    """The database and its own version."""
    from importlib import metadata

    return f"aiconfigurator-core {metadata.version('aiconfigurator-core')}"


def _seconds(ops: Iterable[tuple[str, float, float, str]]) -> float:
    return sum(op[1] for op in ops) / 1e3


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
