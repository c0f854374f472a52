"""The arrays of a level that its figures are made of. Pure arithmetic over records."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadgen.http.response_parser import Outcome
from loadgen.results import steady_state as steady
from loadgen.results.records import Records
from loadgen.results.report import Level

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
    def event_owner(self) -> NDArray[np.int64]:
        """The row that each event belongs to."""
        return np.repeat(np.arange(len(self.records)), self.records.events)

    @cached_property
    def event_weights(self) -> Floats:
        """Tokens of each event. Of requests that broke off, only what is known to have been output.

        A request given up when its level ended counts as it came: where its events did not tell
        their tokens, each holds as many as those of the completed requests did on average.
        """
        records = self.records
        weights = records.event_tokens.astype(np.float64)
        given_up = np.equal(records.outcome, Outcome.ABANDONED)
        unsure = given_up & (records.exact_tokens == 0)
        events = int(records.events[records.completed].sum())
        mean = float(self.tokens.sum()) / events if events else 1.0
        counted = records.completed | given_up
        weights = np.where(unsure[self.event_owner], mean, weights)
        return np.where(counted[self.event_owner], weights, 0.0)

    @cached_property
    def tokens_inside(self) -> float:
        """Output tokens that arrived in the window."""
        return float(self.event_weights[self._inside(self.records.event_ns)].sum())

    @cached_property
    def prompt_tokens_inside(self) -> float | None:
        """Of prompts whose first token came in the window; None where the endpoint does not tell.

        One whose request was given up when the level ended counts as the others did on average.
        """
        records = self.records
        began = self._inside(records.first_ns)
        told = records.input_tokens[records.completed & began]
        if (told < 0).any():
            return None
        if not len(told):
            return 0.0
        given_up = np.count_nonzero(began & np.equal(records.outcome, Outcome.ABANDONED))
        return float(told.sum() + given_up * told.mean())

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
    def has_tpot(self) -> NDArray[np.bool_]:
        return self.chosen & (self.tokens > 1) & (self.records.events > 1)

    @cached_property
    def tpot_ms(self) -> Floats:
        spans = (self.records.last_ns - self.records.first_ns)[self.has_tpot]
        return _ms(spans / (self.tokens[self.has_tpot] - 1))

    def of_each(self, name: str) -> Floats:
        """A latency for every row; NaN where a request has none: "ttft_ms", "itl_max_ms"."""
        records = self.records
        each = np.full(len(records), np.nan)
        match name:
            case "ttft_ms":
                each[self.chosen] = self.ttft_ms
            case "e2e_ms":
                each[self.chosen] = self.e2e_ms
            case "tpot_ms":
                each[self.has_tpot] = self.tpot_ms
            case "itl_mean_ms" | "itl_max_ms":
                owner = self.event_owner[self._gaps]
                first = np.flatnonzero(np.diff(owner, prepend=-1))
                if len(first):
                    reduce = np.maximum if name == "itl_max_ms" else np.add
                    gaps = reduce.reduceat(self.itl_ms, first)
                    counts = 1 if name == "itl_max_ms" else np.diff(np.append(first, len(owner)))
                    each[owner[first]] = gaps / counts
        return each

    @cached_property
    def queue_delay_ms(self) -> Floats:
        """From when a request was due to its sending: above a limit on concurrency, its wait."""
        return _ms((self.records.sent_ns - self.records.due_ns)[self.chosen])

    @cached_property
    def e2e_per_tok_ms(self) -> Floats:
        several = self.chosen & (self.tokens > 0)
        spans = (self.records.last_ns - self.records.due_ns)[several]
        return _ms(spans / self.tokens[several])

    @cached_property
    def _gaps(self) -> NDArray[np.int64]:
        """Indices of the events that have one before them in the same chosen request."""
        owner = self.event_owner
        inner = owner[1:] == owner[:-1]
        return np.flatnonzero(inner & self.chosen[owner[1:]]) + 1

    @cached_property
    def itl_ms(self) -> Floats:
        times = self.records.event_ns
        return _ms(times[self._gaps] - times[self._gaps - 1])

    @cached_property
    def token_itl_ms(self) -> Floats:
        """A gap before an event of k tokens is k samples of a k-th of it."""
        tokens = np.maximum(self.records.event_tokens[self._gaps], 0)
        held = tokens > 0
        each = self.itl_ms[held] / tokens[held]
        return np.repeat(each, tokens[held])

    @cached_property
    def coalesced_share(self) -> float | None:
        """Of the events after the first of a request, those that came in one read with the one before."""
        return float((self.itl_ms == 0).mean()) if len(self.itl_ms) else None

    @cached_property
    def sent_share(self) -> float | None:
        """Requests that went out in the window over those that fell due in it."""
        due = int(np.count_nonzero(self._inside(self.records.due_ns)))
        sent = int(np.count_nonzero(self._inside(self.records.sent_ns)))
        return sent / due if due else None

    @cached_property
    def failed(self) -> int:
        return int(np.count_nonzero(self.cohort & self.records.failed))

    @cached_property
    def steady_share(self) -> float:
        records, window = self.records, self.window
        span = (records.due_ns, records.end_ns, window.start_ns, window.end_ns)
        if self.level.concurrency is None or not self.level.always_busy:
            return steady.keeping_up_share(*span)
        return steady.share_with_at_least(self.level.concurrency, *span)
