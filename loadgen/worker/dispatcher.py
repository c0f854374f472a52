"""One load level as a shard runs it: callbacks only, no task and no timer for a request."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile

from loadgen.clock import Heartbeat, alarm, now_ns
from loadgen.http.connection import Connection, Exchange
from loadgen.http.connection_pool import Pool
from loadgen.http.protocol import Requests
from loadgen.http.response_parser import Outcome, answer_text
from loadgen.prompts.base import Ask, Source
from loadgen.worker.messages import Phase, Plan
from loadgen.worker.request_queue import Agenda

BEAT_NS = 10_000_000
_SWEEP_BEATS = 10
_RESEND_NS = 10**9
_BACKOFF_S = (0.05, 0.5)


@dataclass(slots=True)
class Trace:
    """The raw outcome of a level."""

    begin_ns: int = 0
    over_ns: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    lateness_ns: list[int] = field(default_factory=list)
    lateness_at_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    cpu_at_ns: list[int] = field(default_factory=list)
    loop_lag_ns: list[int] = field(default_factory=list)
    resent: int = 0
    connected: int = 0
    gave_up: bool = False


class LevelRun:
    """`told` is called at each beat, a hundred times a second."""

    def __init__(
        self,
        plan: Plan,
        share: tuple[int, int],
        requests: Requests,
        source: Source,
        told: Callable[["LevelRun"], None],
    ) -> None:
        self.trace = Trace()
        self.phase: Phase = "measure"
        self.received = 0
        self.active: dict[Exchange, Connection | None] = {}
        self.waiting: deque[Exchange] = deque()
        self._plan = plan
        self._agenda = Agenda(plan, share, source)
        self._limit = _share_of(plan.max_in_flight, *share)
        self._requests = requests
        self._source = source
        self._told = told
        self._held: dict[int, Connection] = {}  # by slot: a session keeps its connection
        self._failures = 0
        self._beats = 0

    async def run(self, pool: Pool, begin_ns: int) -> Trace:
        """`pool` must have been made with this run as its owner."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._pool = pool
        self._over: asyncio.Future[None] = loop.create_future()
        self.trace.begin_ns = begin_ns
        self._agenda.begin(begin_ns)
        self._heart = Heartbeat(BEAT_NS, begin_ns)
        with alarm(loop, self._fire) as self._alarm, alarm(loop, self._beat) as beats:
            self._arm()
            beats.at(begin_ns, BEAT_NS)
            await self._over
        return self.trace

    def close(self, drain: bool) -> None:
        """No more requests; without `drain` those under way are given up."""
        if self.phase == "measure":
            self.phase = "drain"
        if not drain:
            self._finish()

    @property
    def used(self) -> int:
        return self._agenda.used

    @property
    def repeated(self) -> int:
        return self._agenda.repeated

    # --- sending

    def _arm(self) -> None:
        if due_ns := self._agenda.due_ns:
            self._alarm.at(due_ns)

    def _fire(self, _expirations: int) -> None:
        while self.phase == "measure" and (turn := self._agenda.pop(now_ns())):
            due_ns, slot, ask = turn
            self._issue(slot, due_ns, ask)
        if self.phase == "measure":
            self._arm()

    def _issue(self, slot: int, due_ns: int, ask: Ask) -> None:
        exchange = Exchange(ask, slot, due_ns)
        if self._limit is not None and len(self.active) >= self._limit:
            self.waiting.append(exchange)
        else:
            self._send(exchange, due_ns)

    def _send(self, exchange: Exchange, free_ns: int) -> None:
        """`free_ns`: since when nothing but this client stood in its way."""
        connection = self._held.pop(exchange.slot, None) if self._held else None
        if connection is None or not connection.usable:
            connection = self._pool.take()
        self.active[exchange] = connection
        if connection is None:
            self._connect(exchange, free_ns)
            return
        self._put(connection, exchange, free_ns)

    def _put(self, connection: Connection, exchange: Exchange, free_ns: int) -> None:
        connection.send(exchange, self._requests.encoded(exchange.ask))
        self.trace.lateness_ns.append(exchange.sent_ns - free_ns)
        self.trace.lateness_at_ns.append(exchange.sent_ns)

    def _connect(self, exchange: Exchange, free_ns: int) -> None:
        self.trace.connected += 1

        def ready(connection: Connection) -> None:
            if exchange not in self.active:  # timed out meanwhile
                self._pool.give(connection)
                return
            self.active[exchange] = connection
            self._put(connection, exchange, free_ns)

        def failed(why: str) -> None:
            self._fail(exchange, Outcome.UNREACHABLE, why)

        self._pool.connect(ready, failed)

    # --- what connections tell

    def answered(self, connection: Connection, exchange: Exchange) -> None:
        if exchange.status != 200:
            self._pool.give(connection)
            self._done(exchange)
            self._failed(exchange)
            return
        self._failures = 0
        self._done(exchange)
        ask = self._turn_after(exchange) if self._source.multi_turn else None
        if ask is not None and connection.usable:
            self._held[exchange.slot] = connection
        else:
            self._pool.give(connection)
        self._go_on(exchange, ask)

    def broken(self, connection: Connection, exchange: Exchange, why: str) -> None:
        self._pool.forget(connection)
        if exchange not in self.active:
            return
        at_ns = now_ns()
        if not exchange.reads and not exchange.resent and at_ns - exchange.sent_ns < _RESEND_NS:
            # The server had closed the idle connection: the request never reached it.
            exchange.resent = True
            self.trace.resent += 1
            if connection.served and exchange.sent_ns - connection.idle_since_ns < _RESEND_NS:
                self._pool.reuse = False  # it closes after each reply and does not say so
            self._connect(exchange, at_ns)
            return
        self._fail(exchange, Outcome.CUT, f"connection lost: {why}")

    def idle_lost(self, connection: Connection) -> None:
        self._pool.forget(connection)

    # --- ends of requests

    def _done(self, exchange: Exchange) -> None:
        del self.active[exchange]
        self.trace.exchanges.append(exchange)

    def _turn_after(self, exchange: Exchange) -> Ask | None:
        if self.phase != "measure":
            return None
        return self._source.next(exchange.ask, answer_text(exchange.reads))

    def _go_on(self, exchange: Exchange, ask: Ask | None) -> None:
        if self.waiting:
            waiting = self.waiting.popleft()
            self._send(waiting, max(exchange.end_ns, waiting.due_ns))
        if self.phase != "measure":
            return
        if ask is not None:
            self._next_turn(exchange, ask)
        elif self._plan.closed:
            self._next_round(exchange.slot, exchange.end_ns)

    def _next_turn(self, exchange: Exchange, ask: Ask) -> None:
        due_ns = exchange.end_ns + int(ask.think_s * 1e9)
        if ask.think_s:
            self._agenda.push(due_ns, exchange.slot, ask)
            self._arm()
        else:
            self._issue(exchange.slot, due_ns, ask)

    def _next_round(self, slot: int, due_ns: int) -> None:
        if (ask := self._agenda.next_round(slot)) is not None:
            self._issue(slot, due_ns, ask)

    def _fail(self, exchange: Exchange, outcome: Outcome, why: str) -> None:
        if exchange not in self.active:
            return
        exchange.outcome, exchange.error, exchange.end_ns = outcome, why, now_ns()
        self._done(exchange)
        self._failed(exchange)

    def _failed(self, exchange: Exchange) -> None:
        self._failures += 1
        if self._failures >= self._plan.give_up_after:
            self.trace.gave_up = True
            self._finish()
        elif self._plan.closed:
            # A user who is refused tries again a little later: no storm of refusals.
            pause_s = min(_BACKOFF_S[0] * 2 ** (self._failures - 1), _BACKOFF_S[1])
            self._loop.call_later(pause_s, self._retry, exchange.slot)
        else:
            self._go_on(exchange, None)

    def _retry(self, slot: int) -> None:
        if self.phase == "measure":
            self._next_round(slot, now_ns())

    # --- phases

    def _beat(self, expirations: int) -> None:
        at_ns = now_ns()
        self._beats += 1
        self._heart.beat(expirations, at_ns)
        if self._beats % _SWEEP_BEATS == 0 and self.phase != "over":
            self.trace.cpu_ns.append(time.thread_time_ns())
            self.trace.cpu_at_ns.append(at_ns)
            self._time_out(at_ns)
        self._told(self)
        if not (self.active or self.waiting) and (self.phase == "drain" or self._agenda.exhausted):
            self._finish()

    def _time_out(self, at_ns: int) -> None:
        limit_ns = at_ns - int(self._plan.request_timeout_s * 1e9)
        why = f"no whole reply within {self._plan.request_timeout_s:g} s"
        while self.waiting and self.waiting[0].due_ns < limit_ns:
            exchange = self.waiting.popleft()
            self.active[exchange] = None
            self._fail(exchange, Outcome.TIMED_OUT, why)
        # Sent in about the order in which they fell due: the first in time ends the search.
        late = list(takewhile(lambda pair: pair[0].due_ns < limit_ns, self.active.items()))
        for exchange, connection in late:
            if connection is not None:
                connection.abort()
            self._fail(exchange, Outcome.TIMED_OUT, why)

    def _finish(self) -> None:
        if self.phase == "over":
            return
        at_ns = now_ns()
        self.phase = "over"
        for exchange in self.waiting:
            self.active[exchange] = None
        for exchange, connection in self.active.items():
            if connection is not None:
                connection.abort()
            exchange.outcome, exchange.end_ns = Outcome.ABANDONED, at_ns
            self.trace.exchanges.append(exchange)
        self.active.clear()
        self.trace.over_ns = at_ns
        self.trace.loop_lag_ns = self._heart.lag_ns
        if not self._over.done():
            self._over.set_result(None)


def _share_of(limit: int | None, shard: int, shards: int) -> int | None:
    """Of a limit on all shards together; never below one."""
    if limit is None:
        return None
    return max(1, limit // shards + (shard < limit % shards))
