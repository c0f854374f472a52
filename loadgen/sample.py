"""The arrays of a level that its figures are made of. Pure arithmetic over records."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadgen import steady
from loadgen.records import Records
from loadgen.report import Level

Floats = NDArray[np.float64]


def _ms(ns: NDArray[np.int64] | Floats) -> Floats:
    ms: Floats = ns / 1e6
    return ms


class Sample:
    """The arrays that formulas are made of."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.records: Records = level.records
        self.window = level.window

    def _inside(self, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.logical_and(times_ns >= self.window.start_ns, times_ns < self.window.end_ns)

    @cached_property
    def cohort(self) -> NDArray[np.bool_]:
        """The requests that the latencies and the error rate are about."""
        closed = self.level.concurrency is not None
        return self._inside(self.records.end_ns if closed else self.records.due_ns)

    @cached_property
    def chosen(self) -> NDArray[np.bool_]:
        return self.cohort & self.records.completed

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Of each completed request; its events where the server did not tell."""
        records = self.records
        told = np.where(records.output_tokens >= 0, records.output_tokens, records.events)
        return np.where(records.completed, told, 0).astype(np.int64)

    @cached_property
    def tokens_inside(self) -> float:
        """Output tokens that arrived in the window."""
        records = self.records
        per_event = self.tokens / np.maximum(records.events, 1)
        each = np.repeat(per_event, records.events)
        return float(each[self._inside(records.event_ns)].sum())

    @cached_property
    def prompt_tokens_inside(self) -> float | None:
        records = self.records
        began = records.completed & self._inside(records.first_ns)
        if (records.input_tokens[began] < 0).any():
            return None
        return float(records.input_tokens[began].sum())

    @cached_property
    def completions_inside(self) -> int:
        return int(np.count_nonzero(self.records.completed & self._inside(self.records.end_ns)))

    @cached_property
    def ttft_ms(self) -> Floats:
        return _ms((self.records.first_ns - self.records.due_ns)[self.chosen])

    @cached_property
    def e2e_ms(self) -> Floats:
        return _ms((self.records.last_ns - self.records.due_ns)[self.chosen])

    @cached_property
    def tpot_ms(self) -> Floats:
        several = self.chosen & (self.tokens > 1) & (self.records.events > 1)
        spans = (self.records.last_ns - self.records.first_ns)[several]
        return _ms(spans / (self.tokens[several] - 1))

    @cached_property
    def itl_ms(self) -> Floats:
        records = self.records
        gaps = np.diff(records.event_ns)
        owner = np.repeat(np.arange(len(records)), records.events)
        inner = owner[1:] == owner[:-1]
        return _ms(gaps[inner & self.chosen[owner[1:]]])

    @cached_property
    def failed(self) -> int:
        return int(np.count_nonzero(self.cohort & self.records.failed))

    @cached_property
    def steady_share(self) -> float:
        records, window = self.records, self.window
        span = (records.due_ns, records.end_ns, window.start_ns, window.end_ns)
        if self.level.concurrency is None:
            return steady.keeping_up_share(*span)
        return steady.share_with_at_least(self.level.concurrency, *span)
