"""Which request of a level goes out next, and when: the policy of the dispatchers of both clocks. Pure."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from loadgen.http.response import Outcome
from loadgen.prompts.base import Request, Source
from loadgen.worker.messages import Phase, Plan
from loadgen.worker.request_queue import RequestQueue

SWEEP_NS = 100_000_000  # between two searches for requests past their time-out
_BACKOFF_NS, _BACKOFF_MAX_NS = 50_000_000, 500_000_000
_BACKOFF_DOUBLINGS = 4  # reach the maximum


class Dispatched(Protocol):
    """A request and what became of it, in the form that a dispatcher needs."""

    slot: int
    due_ns: int
    end_ns: int
    outcome: Outcome
    error: str


E = TypeVar("E", bound=Dispatched)
C = TypeVar("C")  # what carries a request: a connection, where there is one


class DispatchPolicy(ABC, Generic[E, C]):
    """The rules of one level; a subclass sends and receives, and brings the time of every event.

    Inherited rather than held: the wall clock's dispatcher can't afford another call per request. `new`
    makes the dispatcher's form of a request from the request, its slot and its due time.
    """

    def __init__(
        self,
        plan: Plan,
        share: tuple[int, int],
        source: Source,
        new: Callable[[Request, int, int], E],
    ) -> None:
        self.phase: Phase = "measure"
        self.active: dict[E, C] = {}
        self.waiting: deque[E] = deque()  # due, but above the limit on requests in flight
        self.ended: list[E] = []
        self.gave_up = False
        self.queue = RequestQueue(plan, share, source)
        self._new = new
        self._closed = plan.closed
        self._limit = _share_of(plan.max_in_flight, *share)
        self._timeout_ns = int(plan.request_timeout_s * 1e9)
        self._give_up_after = plan.give_up_after
        self._failures = 0  # in a row

    # --- what a dispatcher adds

    @abstractmethod
    def _send(self, exchange: E, free_ns: int) -> C:
        """Sends it. `free_ns`: since when nothing but this client delays it."""

    @abstractmethod
    def _cancel(self, exchange: E, carrier: C) -> None:
        """Stops a request that was sent and has no end yet."""

    @abstractmethod
    def _arm(self) -> None:
        """`queue.due_ns` may have changed."""

    @abstractmethod
    def _on_finish(self, at_ns: int) -> None:
        """The level is over."""

    # --- sending

    def _issue(self, due_ns: int, slot: int, request: Request) -> None:
        """Of a request that is due: sends it, or lets it wait for a place."""
        exchange = self._new(request, slot, due_ns)
        if self._limit is not None and len(self.active) >= self._limit:
            self.waiting.append(exchange)
        else:
            self.active[exchange] = self._send(exchange, due_ns)

    # Issues what falls due at the very end of another request. A separate name for clocks on which
    # several requests end at one instant.
    _issue_next = _issue

    # --- ends of requests

    def _completed(self, exchange: E, turn: Request | None) -> None:
        """`turn`: the next one of its conversation."""
        self._failures = 0
        del self.active[exchange]
        self.ended.append(exchange)
        if self._closed or self.waiting or turn is not None:
            self._go_on(exchange, turn)

    def _go_on(self, exchange: E, turn: Request | None) -> None:
        """A free place goes to the longest waiting; then the user of `exchange` continues."""
        if self.waiting and (self._limit is None or len(self.active) < self._limit):
            waiting = self.waiting.popleft()
            self.active[waiting] = self._send(waiting, max(exchange.end_ns, waiting.due_ns))
        if self.phase != "measure":
            return
        if turn is not None:
            due_ns = exchange.end_ns + int(turn.think_s * 1e9)
            if turn.think_s:
                self.queue.push(due_ns, exchange.slot, turn)
                self._arm()
            else:
                self._issue_next(due_ns, exchange.slot, turn)
        elif self._closed and (request := self.queue.next_round(exchange.slot)) is not None:
            self._issue_next(exchange.end_ns, exchange.slot, request)

    def _fail(self, exchange: E, outcome: Outcome, why: str, at_ns: int) -> None:
        exchange.outcome, exchange.error, exchange.end_ns = outcome, why, at_ns
        self._failed(exchange)

    def _failed(self, exchange: E) -> None:
        """Its outcome is known. Too many failures in a row end the level."""
        self.active.pop(exchange, None)
        self.ended.append(exchange)
        self._failures += 1
        if self._failures >= self._give_up_after:
            self.gave_up = True
            self.finish(exchange.end_ns)
        elif not self._closed:
            self._go_on(exchange, None)
        elif self.phase == "measure":
            # A user who is refused tries again a little later: no storm of refusals.
            backoff_ns = _BACKOFF_NS << min(self._failures - 1, _BACKOFF_DOUBLINGS)
            due_ns = exchange.end_ns + min(backoff_ns, _BACKOFF_MAX_NS)
            self.queue.push_next_round(due_ns, exchange.slot)
            self._arm()

    def time_out(self, at_ns: int) -> None:
        """Fails what has been due for longer than the time-out, what was never sent first."""
        limit_ns = at_ns - self._timeout_ns
        why = f"no whole reply within {self._timeout_ns / 1e9:g} s"
        while self.waiting and self.waiting[0].due_ns < limit_ns:
            self._fail(self.waiting.popleft(), Outcome.TIMED_OUT, why, at_ns)
        # Sent in about the order in which they fell due: the first in time ends the search.
        for exchange in list(takewhile(lambda each: each.due_ns < limit_ns, self.active)):
            if exchange in self.active:
                self._cancel(exchange, self.active[exchange])
                self._fail(exchange, Outcome.TIMED_OUT, why, at_ns)

    # --- phases

    @property
    def complete(self) -> bool:
        """Nothing is in flight or waiting, and nothing is left to send."""
        in_flight = self.active or self.waiting
        return not in_flight and (self.phase == "drain" or self.queue.exhausted)

    def close(self, drain: bool, at_ns: int) -> None:
        """Nothing new is sent. Without `drain`, requests in flight are abandoned."""
        if self.phase == "measure":
            self.phase = "drain"
        if not drain:
            self.finish(at_ns)

    def finish(self, at_ns: int) -> None:
        """Abandons what is in flight or waiting; the level is over."""
        if self.phase == "over":
            return
        self.phase = "over"
        for exchange, carrier in self.active.items():
            self._cancel(exchange, carrier)
        for exchange in (*self.active, *self.waiting):
            exchange.outcome, exchange.end_ns = Outcome.ABANDONED, at_ns
            self.ended.append(exchange)
        self.active.clear()
        self.waiting.clear()
        self._on_finish(at_ns)


def _share_of(limit: int | None, index: int, count: int) -> int | None:
    """One worker's part of a limit on all workers together; never below one."""
    if limit is None:
        return None
    return max(1, limit // count + (index < limit % count))
