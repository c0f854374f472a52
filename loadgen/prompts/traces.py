"""Traces of production: when requests came, how long they were, and what they shared.

Mooncake (github.com/kvcache-ai/Mooncake, FAST'25): JSONL of `timestamp` (ms), `input_length`,
`output_length`, `hash_ids`, one id for each block of 512 tokens; blocks with the same id are the same.
Azure LLM inference (github.com/Azure/AzurePublicDataset, 2023 and 2024): CSV of TIMESTAMP,
ContextTokens, GeneratedTokens. BurstGPT (github.com/HPMLL/BurstGPT): CSV of Timestamp (s), Model,
Request tokens, Response tokens, Total tokens, Log Type; later files have more columns.
"""

import csv
import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Ask
from loadgen.prompts.encoding import Writer
from loadgen.workload.workload import Dataset

BLOCK_TOKENS = 512
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


@dataclass(frozen=True, slots=True)
class Entry:
    at_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """A trace as read: rows in the order of their times; the first is at 0."""

    entries: tuple[Entry, ...]
    longest_input: int


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    entries: tuple[Entry, ...]
    writer: Writer
    offset: int
    due_s: NDArray[np.float64] | None
    size: int | None
    longest_tokens: int
    multi_turn: bool = False

    def first(self, number: int) -> Ask:
        entry = self.entries[number]
        tokens = self._tokens(number, entry)
        exact = entry.input_tokens if self.writer.counted else None
        return Ask(self.writer.prompt(tokens), entry.output_tokens, exact)

    def next(self, ask: Ask, answer: str) -> Ask | None:
        return None

    def _tokens(self, number: int, entry: Entry) -> bytes:
        pool = self.writer.pool
        if not entry.blocks:
            return pool.distinct(number + self.offset, entry.input_tokens)
        left, parts = entry.input_tokens, []
        for block in entry.blocks:
            length = min(BLOCK_TOKENS, left)
            if length > 0:
                parts.append(pool.distinct(block + self.offset, length))
            left -= length
        if left > 0:
            parts.append(pool.distinct(number + self.offset, left))
        return pool.separator.join(parts)


def replay(trace: Replay, writer: Writer, seed: int) -> Replayed:
    offset = int(np.random.default_rng((seed, 11)).integers(0, 1 << 20))
    due_s = np.array([entry.at_s for entry in trace.entries])
    longest = max(entry.input_tokens + entry.output_tokens for entry in trace.entries)
    return Replayed(trace.entries, writer, offset, due_s, len(trace.entries), longest)


def read_trace(dataset: Dataset) -> Replay:
    """Raises BadWorkload with file and line. Rows without an answer (failures) are left out."""
    readers: dict[str, Callable[[Path], Iterator[Entry]]] = {
        "mooncake": _mooncake,
        "azure": _azure,
        "burstgpt": _burstgpt,
    }
    try:
        read = list(readers[dataset.kind](dataset.path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadWorkload(f"{dataset.path}: {(why or str(error)).lower()}") from error
    entries = sorted((e for e in read if e.output_tokens > 0), key=lambda entry: entry.at_s)
    entries = entries[: dataset.limit]
    if not entries:
        raise BadWorkload(f"{dataset.path}: no request with an answer in it")
    begin_s = entries[0].at_s
    shifted = tuple(
        Entry(e.at_s - begin_s, e.input_tokens, e.output_tokens, e.blocks) for e in entries
    )
    return Replay(shifted, max(entry.input_tokens for entry in shifted))


def _mooncake(path: Path) -> Iterator[Entry]:
    expected = '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}'
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                blocks = tuple(int(block) for block in row.get("hash_ids", ()))
                at_s = float(row["timestamp"]) / 1e3
                yield _entry(at_s, row["input_length"], row["output_length"], blocks)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _fault(path, number, error, expected) from None


def _azure(path: Path) -> Iterator[Entry]:
    for number, row in _csv(path, _AZURE):
        try:
            # Seven digits of a second, of which Python takes six.
            moment, _, fraction = row["TIMESTAMP"].partition(".")
            digits = fraction.split("+")[0][:6]
            stamp = datetime.datetime.fromisoformat(f"{moment}.{digits or '0':0<6}+00:00")
            yield _entry(stamp.timestamp(), row["ContextTokens"], row["GeneratedTokens"])
        except ValueError as error:
            raise _fault(path, number, error, "2023-11-16 18:17:03.9799600,4808,10") from None


def _burstgpt(path: Path) -> Iterator[Entry]:
    for number, row in _csv(path, _BURSTGPT):
        try:
            at_s = float(row["Timestamp"])
            yield _entry(at_s, row["Request tokens"], row["Response tokens"])
        except ValueError as error:
            raise _fault(path, number, error, "5,ChatGPT,472,18,490,Conversation log") from None


def _entry(at_s: float, inputs: object, outputs: object, blocks: tuple[int, ...] = ()) -> Entry:
    input_tokens, output_tokens = int(str(inputs)), int(str(outputs))
    if input_tokens < 0 or output_tokens < 0:
        raise ValueError(f"a length below 0: {min(input_tokens, output_tokens)}")
    return Entry(at_s, max(1, input_tokens), output_tokens, blocks)


def _csv(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(needed)
            raise BadWorkload(f"{path}:1: no column {missing[0]!r}: expected {columns}")
        for row in reader:
            yield reader.line_num, {k: v or "" for k, v in row.items() if k is not None}


def _fault(path: Path, number: int, error: Exception, expected: str) -> BadWorkload:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    return BadWorkload(f"{path}:{number}: {what}: expected a row as {expected}")
