"""One load level on a virtual clock: the policy of the wall clock, against a server with a clock of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.http.response import Outcome
from loadgen.prompts.base import Request, Source
from loadgen.worker.dispatch_policy import SWEEP_NS, DispatchPolicy
from loadgen.worker.messages import LiveUpdate, Plan

_START_NS = 10**9  # 0 means in records that something never happened
_DRAIN_STEP_S = 0.2


def ns_of(seconds: float) -> int:
    """A time of the virtual clock, as in records."""
    return round(seconds * 1e9) + _START_NS


def s_of(ns: int) -> float:
    """The inverse of `ns_of`."""
    return (ns - _START_NS) / 1e9


@dataclass(slots=True, eq=False)
class VirtualExchange:
    """A request and its answer. The server fills in the fields from `end_s` to `text`.

    `times_s` and `tokens`: of its output events. `end_ns`: the end in records.
    """

    request: Request
    slot: int
    due_ns: int
    sent_ns: int = 0
    end_ns: int = 0
    outcome: Outcome = Outcome.COMPLETED
    end_s: float = 0.0
    input_tokens: int = -1
    times_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    tokens: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    error: str = ""
    text: str = ""

    def event_ns(self, index: int) -> int:
        """The time of an output event; 0 if there was none."""
        return ns_of(float(self.times_s[index])) if len(self.times_s) else 0


class VirtualServer(Protocol):
    """Seconds on its own clock, which begins at 0 and only `advance` moves."""

    @property
    def now_s(self) -> float:
        """The time of the latest event."""

    @property
    def next_s(self) -> float | None:
        """The time of the next event; None while there is none."""

    def send(self, sent: VirtualExchange, at_s: float) -> None:
        """A request arrives."""

    def advance(self, until_s: float) -> Sequence[VirtualExchange]:
        """Runs to `until_s`, or until requests are answered: returns those, filled in."""

    def abandon(self, sent: VirtualExchange) -> None:
        """The client no longer waits for it. Fills in what came until now."""


class VirtualDispatcher(DispatchPolicy[VirtualExchange, None]):
    """One worker without a network; `step` moves its clock."""

    def __init__(self, server: VirtualServer, plan: Plan, source: Source, begin_s: float) -> None:
        super().__init__(plan, (0, 1), source, VirtualExchange)
        self.now_s = begin_s
        self._server, self._source = server, source
        self._begin_ns = ns_of(begin_s)
        self._reported = 0
        self._received = 0
        self.queue.begin(self._begin_ns)

    def step(self, limit_s: float) -> bool:
        """Moves the clock to the next event, `limit_s` at the latest. False: the level ended by itself."""
        sweep_s = self._sweep_s()
        limit_s = min(limit_s, sweep_s)
        due_ns, next_s = self.queue.due_ns, self._server.next_s
        due_s = s_of(due_ns) if due_ns else math.inf
        if due_s <= min(limit_s, limit_s if next_s is None else next_s):
            self.now_s = max(self.now_s, due_s)
            at_ns = max(due_ns, ns_of(self.now_s))
            while self.phase == "measure" and (due := self.queue.pop(at_ns)):
                self._issue(*due)
        elif next_s is not None and next_s <= limit_s:
            self._advance(min(limit_s, due_s))
        elif self.complete:
            return False
        else:
            self.now_s = max(self.now_s, limit_s)
        self._sweep(sweep_s)
        return not self.gave_up

    def drain(self) -> None:
        """Until every request sent has an end."""
        while self.active or self.waiting:
            next_s, sweep_s = self._server.next_s, self._sweep_s()
            if next_s is None or next_s > sweep_s:
                self.now_s = max(self.now_s, sweep_s)
            else:
                self._advance(min(max(next_s, self.now_s + _DRAIN_STEP_S), sweep_s))
            self._sweep(sweep_s)

    def live_update(self) -> LiveUpdate:
        """What happened since the last update."""
        rows = [
            (e.due_ns, e.event_ns(0), e.end_ns, int(e.tokens.sum()), not e.error)
            for e in self.ended[self._reported :]
        ]
        finished = np.array(rows, np.int64).reshape(len(rows), 5)
        waiting = [exchange.due_ns for exchange in (*self.active, *self.waiting)]
        self._reported = len(self.ended)
        self._received += int(finished[:, 3].sum())
        return LiveUpdate(ns_of(self.now_s), finished, np.array(waiting, np.int64), self._received)

    def _advance(self, until_s: float) -> None:
        answered = [each for each in self._server.advance(until_s) if each in self.active]
        self.now_s = max(self.now_s, self._server.now_s)
        for exchange in answered:
            exchange.end_ns = ns_of(exchange.end_s)
        for exchange in answered:
            if exchange not in self.active:
                continue  # the one before it ended the level
            if exchange.error:
                exchange.outcome = Outcome.REFUSED
                self._failed(exchange)
            else:
                going_on = self._source.multi_turn and self.phase == "measure"
                turn = self._source.next(exchange.request, exchange.text) if going_on else None
                self._completed(exchange, turn)

    def _sweep_s(self) -> float:
        """The next sweep that finds a request past its time-out; as far apart as on the wall clock."""
        heads = [next(iter(queue)).due_ns for queue in (self.active, self.waiting) if queue]
        if not heads:
            return math.inf
        after_ns = max(min(heads) + self._timeout_ns, ns_of(self.now_s))
        sweeps = (after_ns - self._begin_ns) // SWEEP_NS + 1
        return s_of(self._begin_ns + sweeps * SWEEP_NS)

    def _sweep(self, sweep_s: float) -> None:
        if self.now_s >= sweep_s:
            self.time_out(ns_of(self.now_s))

    # --- the policy's hooks

    def _send(self, exchange: VirtualExchange, free_ns: int) -> None:
        at_s = max(self.now_s, s_of(exchange.due_ns))
        exchange.sent_ns = ns_of(at_s)
        self._server.send(exchange, at_s)

    def _issue_next(self, due_ns: int, slot: int, request: Request) -> None:
        """Through the queue: of several requests that end at one instant, all end before the next are sent."""
        self.queue.push(due_ns, slot, request)

    def _cancel(self, exchange: VirtualExchange, carrier: None) -> None:
        if not exchange.end_ns:  # else it was answered at this very instant
            self._server.abandon(exchange)

    def _arm(self) -> None:
        """`step` reads the queue anew."""

    def _on_finish(self, at_ns: int) -> None:
        """Nothing to release; callers read `phase`."""
