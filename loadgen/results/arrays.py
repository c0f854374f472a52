"""Arrays computed from the records of a level, the input of all metrics. Pure."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadgen.http.response import Outcome
from loadgen.results import steady_state
from loadgen.results.records import Records
from loadgen.results.report import Level

Floats = NDArray[np.float64]


def _ms(ns: NDArray[np.int64] | Floats) -> Floats:
    ms: Floats = ns / 1e6
    return ms


class LevelArrays:
    """Boolean arrays have one entry a request, `_ms` arrays one a sample. Computed on first use.

    A request is in the cohort if it ended (closed loop) or was due (open loop) inside the window.
    """

    def __init__(self, level: Level) -> None:
        self.level = level
        self.records: Records = level.records
        self.window = level.window

    def _inside(self, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.logical_and(times_ns >= self.window.start_ns, times_ns < self.window.end_ns)

    @cached_property
    def cohort(self) -> NDArray[np.bool_]:
        """Requests that the latencies and the error rate are computed over."""
        closed = self.level.concurrency is not None
        return self._inside(self.records.end_ns if closed else self.records.due_ns)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """The completed requests of the cohort."""
        return self.cohort & self.records.completed

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Output tokens of each completed request; the number of events where `usage` was missing."""
        records = self.records
        reported = np.where(records.output_tokens >= 0, records.output_tokens, records.events)
        return np.where(records.completed, reported, 0).astype(np.int64)

    @cached_property
    def event_row(self) -> NDArray[np.int64]:
        """The request (row) of each event."""
        return np.repeat(np.arange(len(self.records)), self.records.events)

    @cached_property
    def event_weights(self) -> Floats:
        """Output tokens of each event; 0 for those of failed requests.

        Requests abandoned at the end of the level count up to there: where their tokens per event
        are unknown, the mean of the completed requests is used.
        """
        records = self.records
        weights = records.event_tokens.astype(np.float64)
        abandoned = np.equal(records.outcome, Outcome.ABANDONED)
        unknown = abandoned & (records.exact_tokens == 0)
        events = int(records.events[records.completed].sum())
        mean = float(self.tokens.sum()) / events if events else 1.0
        counted = records.completed | abandoned
        weights = np.where(unknown[self.event_row], mean, weights)
        return np.where(counted[self.event_row], weights, 0.0)

    @cached_property
    def tokens_inside(self) -> float:
        """Output tokens that arrived inside the window."""
        return float(self.event_weights[self._inside(self.records.event_ns)].sum())

    @cached_property
    def prompt_tokens_inside(self) -> float | None:
        """Prompt tokens of requests whose first token arrived inside the window.

        None where the endpoint does not report them. Abandoned requests count with the mean of the
        completed ones.
        """
        records = self.records
        started = self._inside(records.first_ns)
        reported = records.input_tokens[records.completed & started]
        if (reported < 0).any():
            return None
        if not len(reported):
            return 0.0
        abandoned = np.count_nonzero(started & np.equal(records.outcome, Outcome.ABANDONED))
        return float(reported.sum() + abandoned * reported.mean())

    @cached_property
    def completions_inside(self) -> int:
        """Requests completed inside the window."""
        return int(np.count_nonzero(self.records.completed & self._inside(self.records.end_ns)))

    @cached_property
    def ttft_ms(self) -> Floats:
        """From due to first token."""
        return _ms((self.records.first_ns - self.records.due_ns)[self.measured])

    @cached_property
    def e2e_ms(self) -> Floats:
        """From due to last token."""
        return _ms((self.records.last_ns - self.records.due_ns)[self.measured])

    @cached_property
    def has_tpot(self) -> NDArray[np.bool_]:
        """Measured requests of at least two tokens in at least two events."""
        return self.measured & (self.tokens > 1) & (self.records.events > 1)

    @cached_property
    def tpot_ms(self) -> Floats:
        """(last - first token) / (output tokens - 1)."""
        spans = (self.records.last_ns - self.records.first_ns)[self.has_tpot]
        return _ms(spans / (self.tokens[self.has_tpot] - 1))

    def per_request(self, name: str) -> Floats:
        """One latency for every row, NaN where a request has none.

        `name`: "ttft_ms", "e2e_ms", "tpot_ms", "itl_mean_ms" or "itl_max_ms".
        """
        records = self.records
        each = np.full(len(records), np.nan)
        match name:
            case "ttft_ms":
                each[self.measured] = self.ttft_ms
            case "e2e_ms":
                each[self.measured] = self.e2e_ms
            case "tpot_ms":
                each[self.has_tpot] = self.tpot_ms
            case "itl_mean_ms" | "itl_max_ms":
                rows = self.event_row[self._gaps]
                first = np.flatnonzero(np.diff(rows, prepend=-1))
                if len(first):
                    reduce = np.maximum if name == "itl_max_ms" else np.add
                    gaps = reduce.reduceat(self.itl_ms, first)
                    counts = 1 if name == "itl_max_ms" else np.diff(np.append(first, len(rows)))
                    each[rows[first]] = gaps / counts
        return each

    @cached_property
    def queue_delay_ms(self) -> Floats:
        """From due to sent: the wait for a free place under a concurrency limit."""
        return _ms((self.records.sent_ns - self.records.due_ns)[self.measured])

    @cached_property
    def e2e_per_tok_ms(self) -> Floats:
        """End-to-end latency over output tokens."""
        several = self.measured & (self.tokens > 0)
        spans = (self.records.last_ns - self.records.due_ns)[several]
        return _ms(spans / self.tokens[several])

    @cached_property
    def _gaps(self) -> NDArray[np.int64]:
        """Indices of events that follow another event of the same measured request."""
        rows = self.event_row
        inner = rows[1:] == rows[:-1]
        return np.flatnonzero(inner & self.measured[rows[1:]]) + 1

    @cached_property
    def itl_ms(self) -> Floats:
        """Gaps between the events of a request."""
        times = self.records.event_ns
        return _ms(times[self._gaps] - times[self._gaps - 1])

    @cached_property
    def token_itl_ms(self) -> Floats:
        """A gap before an event of k tokens counts as k samples of 1/k of the gap."""
        tokens = np.maximum(self.records.event_tokens[self._gaps], 0)
        positive = tokens > 0
        each = self.itl_ms[positive] / tokens[positive]
        return np.repeat(each, tokens[positive])

    @cached_property
    def coalesced_share(self) -> float | None:
        """Share of events that arrived in the same read as the previous event of their request."""
        return float((self.itl_ms == 0).mean()) if len(self.itl_ms) else None

    @cached_property
    def sent_share(self) -> float | None:
        """Requests sent inside the window over those due in it; None if none was due."""
        due = int(np.count_nonzero(self._inside(self.records.due_ns))) + self.level.client.missed
        sent = int(np.count_nonzero(self._inside(self.records.sent_ns)))
        return sent / due if due else None

    @cached_property
    def failed(self) -> int:
        """Failed requests of the cohort."""
        return int(np.count_nonzero(self.cohort & self.records.failed))

    @cached_property
    def steady_share(self) -> float:
        """Closed: share of the window with all users busy. Open: 1 - growth of the queue / arrivals."""
        records, window = self.records, self.window
        span = (records.due_ns, records.end_ns, window.start_ns, window.end_ns)
        if self.level.concurrency is None or not self.level.always_busy:
            return steady_state.keeping_up_share(*span)
        return steady_state.share_with_at_least(self.level.concurrency, *span)
