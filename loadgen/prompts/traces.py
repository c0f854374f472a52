"""Production traces: arrival times, lengths and shared blocks of requests.

Mooncake (github.com/kvcache-ai/Mooncake, FAST'25): JSONL of `timestamp` (ms), `input_length`,
`output_length`, `hash_ids`, one id for each block of 512 tokens; blocks with the same id are the same.
Azure LLM inference (github.com/Azure/AzurePublicDataset, 2023 and 2024): CSV of TIMESTAMP,
ContextTokens, GeneratedTokens. BurstGPT (github.com/HPMLL/BurstGPT): CSV of Timestamp (s), Model,
Request tokens, Response tokens, Total tokens, Log Type; later files have more columns.
"""

import csv
import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Request
from loadgen.prompts.data_file import data_lines, parsed_json, shown, token_count
from loadgen.prompts.encoding import PromptEncoder
from loadgen.workload.workload import Dataset

BLOCK_TOKENS = 512
BLOCK_ID_MAX = 2**62
SECONDS_MAX = 1e12  # of a timestamp since whatever epoch the trace counts from
NO_OUTPUT = "requests without output tokens"
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    at_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()  # ids of the prompt's blocks of 512 tokens


@dataclass(frozen=True, slots=True)
class TraceRows:
    """A trace as read, sorted by time; the first row is at 0 s. `left_out`: how many of what."""

    rows: tuple[TraceRow, ...]
    longest_input: int
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TraceSource:
    """Requests of a trace: random tokens, blocks of the same id are equal."""

    rows: tuple[TraceRow, ...]
    encoder: PromptEncoder
    offset: int
    due_s: NDArray[np.float64] | None
    size: int | None
    longest_tokens: int
    multi_turn: bool = False

    def first(self, number: int) -> Request:
        """The request of row `number`."""
        row = self.rows[number]
        tokens = self._tokens(number, row)
        exact = row.input_tokens if self.encoder.exact_lengths else None
        return Request(self.encoder.from_tokens(tokens), row.output_tokens, exact)

    def next(self, request: Request, answer: str) -> Request | None:
        """None: traces have single turns."""
        return None

    def _tokens(self, number: int, row: TraceRow) -> bytes:
        pool = self.encoder.pool
        if not row.blocks:
            return pool.distinct(number + self.offset, row.input_tokens)
        left, parts = row.input_tokens, []
        for block in row.blocks:
            length = min(BLOCK_TOKENS, left)
            if length > 0:
                parts.append(pool.distinct(block + self.offset, length))
            left -= length
        if left > 0:
            parts.append(pool.distinct(number + self.offset, left))
        return pool.separator.join(parts)


def trace_source(trace: TraceRows, encoder: PromptEncoder, seed: int) -> TraceSource:
    """The seed selects the tokens; times and lengths are the trace's."""
    offset = int(np.random.default_rng((seed, 11)).integers(0, 1 << 20))
    due_s = np.array([row.at_s for row in trace.rows])
    longest = max(row.input_tokens + row.output_tokens for row in trace.rows)
    return TraceSource(trace.rows, encoder, offset, due_s, len(trace.rows), longest)


def read_trace(dataset: Dataset) -> TraceRows:
    """Raises BadWorkload with file and line. Rows without output tokens (failed requests) are left out."""
    readers: dict[str, Callable[[Path], Iterator[TraceRow]]] = {
        "mooncake": _mooncake,
        "azure": _azure,
        "burstgpt": _burstgpt,
    }
    read = list(readers[dataset.kind](dataset.path))
    rows = sorted((e for e in read if e.output_tokens > 0), key=lambda row: row.at_s)
    left_out = {NO_OUTPUT: len(read) - len(rows)} if len(read) > len(rows) else {}
    rows = rows[: dataset.limit]
    if not rows:
        raise BadWorkload(f"{dataset.path}: no request with output tokens")
    begin_s = rows[0].at_s
    shifted = tuple(
        TraceRow(e.at_s - begin_s, e.input_tokens, e.output_tokens, e.blocks) for e in rows
    )
    return TraceRows(shifted, max(row.input_tokens for row in shifted), left_out)


def _mooncake(path: Path) -> Iterator[TraceRow]:
    expected = '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}'
    for number, line in data_lines(path):
        if not line.strip():
            continue
        row = parsed_json(f"{path}:{number}", line)
        try:
            at_s = float(row["timestamp"]) / 1e3
            yield _row(at_s, row["input_length"], row["output_length"], _blocks(row))
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
            raise _bad_row(path, number, error, expected) from None


def _blocks(row: dict[str, Any]) -> tuple[int, ...]:
    blocks = row.get("hash_ids", [])
    if not isinstance(blocks, list) or not all(
        isinstance(each, int) and 0 <= each < BLOCK_ID_MAX for each in blocks
    ):
        raise ValueError(f"hash_ids: expected a list of numbers, got {shown(blocks)}")
    return tuple(blocks)


def _azure(path: Path) -> Iterator[TraceRow]:
    for number, row in _csv(path, _AZURE):
        try:
            # Seven decimals of a second; Python parses six.
            moment, _, fraction = row["TIMESTAMP"].partition(".")
            digits = fraction.split("+")[0][:6]
            stamp = datetime.datetime.fromisoformat(f"{moment}.{digits or '0':0<6}+00:00")
            yield _row(stamp.timestamp(), row["ContextTokens"], row["GeneratedTokens"])
        except ValueError as error:
            raise _bad_row(path, number, error, "2023-11-16 18:17:03.9799600,4808,10") from None


def _burstgpt(path: Path) -> Iterator[TraceRow]:
    for number, row in _csv(path, _BURSTGPT):
        try:
            at_s = float(row["Timestamp"])
            yield _row(at_s, row["Request tokens"], row["Response tokens"])
        except ValueError as error:
            raise _bad_row(path, number, error, "5,ChatGPT,472,18,490,Conversation log") from None


def _row(at_s: float, inputs: object, outputs: object, blocks: tuple[int, ...] = ()) -> TraceRow:
    if not math.isfinite(at_s) or abs(at_s) > SECONDS_MAX:
        raise ValueError(f"the time is {at_s:g} s")
    input_tokens = token_count("input length", inputs)
    return TraceRow(at_s, max(1, input_tokens), token_count("output length", outputs), blocks)


def _csv(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(line for _, line in data_lines(path))
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(needed)
            raise BadWorkload(f"{path}:1: no column {missing[0]!r}; expected {columns}")
        for row in reader:
            yield reader.line_num, {k: v or "" for k, v in row.items() if k is not None}
    except csv.Error as error:
        raise BadWorkload(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _bad_row(path: Path, number: int, error: Exception, expected: str) -> BadWorkload:
    what = f"missing {error}" if isinstance(error, KeyError) else str(error)
    return BadWorkload(f"{path}:{number}: {what}; expected a row such as {expected}")
