"""One load level as it runs: callbacks only, no task and no timer for a request."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from loadgen.clock import Alarm, Heartbeat, alarm, now_ns
from loadgen.connection import Connection, Exchange
from loadgen.pool import Pool
from loadgen.protocol import Requests
from loadgen.replies import Outcome

BEAT_NS = 10_000_000
_SWEEP_BEATS = 10
_RESEND_NS = 10**9
_BACKOFF_S = (0.05, 0.5)
_ANSWERED = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True)
class Plan:
    """`starts_ns` are offsets. Closed: one start a user, who then goes on. Open: all requests."""

    closed: bool
    starts_ns: list[int]
    max_in_flight: int | None
    warmup_s: float
    level_s: float
    level_max_s: float
    min_requests: int
    request_timeout_s: float
    give_up_after: int  # failures in a row


Phase = Literal["warmup", "measure", "drain", "over"]


@dataclass(slots=True)
class Trace:
    """The raw outcome of a level."""

    begin_ns: int = 0
    start_ns: int = 0
    end_ns: int = 0
    over_ns: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    lateness_ns: list[int] = field(default_factory=list)
    loop_lag_ns: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    resent: int = 0
    connected: int = 0
    gave_up: bool = False
    stopped: bool = False


class LevelRun:
    def __init__(
        self,
        plan: Plan,
        requests: Requests,
        first_number: int,
        tick: Callable[[Phase, int, float], None],
        stop: Callable[[], bool],
    ) -> None:
        self.trace = Trace()
        self.phase: Phase = "warmup"
        self._plan = plan
        self._requests = requests
        self._number = first_number
        self._tick = tick
        self._stop = stop
        self._next = 0
        self._waiting: deque[Exchange] = deque()
        self._active: dict[Exchange, Connection | None] = {}
        self._measured = 0
        self._completed = 0
        self._failures = 0
        self._beats = 0

    async def run(self, pool: Pool) -> Trace:
        """`pool` must have been made with this run as its owner."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._pool = pool
        self._over: asyncio.Future[None] = loop.create_future()
        begin_ns = now_ns() + BEAT_NS
        self.trace.begin_ns = begin_ns
        self._starts_ns = [begin_ns + offset for offset in self._plan.starts_ns]
        self._heart = Heartbeat(BEAT_NS, begin_ns)
        with alarm(loop, self._fire) as self._alarm, alarm(loop, self._beat) as beats:
            self._arm(self._alarm)
            beats.at(begin_ns, BEAT_NS)
            await self._over
        return self.trace

    # --- sending

    def _arm(self, timer: Alarm) -> None:
        if self._next < len(self._starts_ns):
            timer.at(self._starts_ns[self._next])

    def _fire(self, _expirations: int) -> None:
        starts_ns = self._starts_ns
        while self._next < len(starts_ns) and starts_ns[self._next] <= now_ns():
            if self.phase in ("drain", "over"):
                return
            due_ns = starts_ns[self._next]
            self._issue(self._next, due_ns)
            self._next += 1
        self._arm(self._alarm)

    def _issue(self, slot: int, due_ns: int) -> None:
        exchange = Exchange(self._number, slot, due_ns)
        self._number += 1
        limit = self._plan.max_in_flight
        if limit is not None and len(self._active) >= limit:
            self._waiting.append(exchange)
        else:
            self._send(exchange, due_ns)

    def _send(self, exchange: Exchange, free_ns: int) -> None:
        """`free_ns`: since when nothing but this client stood in its way."""
        connection = self._pool.take()
        self._active[exchange] = connection
        if connection is None:
            self._connect(exchange, free_ns)
            return
        connection.send(exchange, self._requests.encoded(exchange.number))
        self.trace.lateness_ns.append(exchange.sent_ns - free_ns)

    def _connect(self, exchange: Exchange, free_ns: int) -> None:
        self.trace.connected += 1

        def ready(connection: Connection) -> None:
            if exchange not in self._active:  # timed out meanwhile
                self._pool.give(connection)
                return
            self._active[exchange] = connection
            connection.send(exchange, self._requests.encoded(exchange.number))
            self.trace.lateness_ns.append(exchange.sent_ns - free_ns)

        def failed(why: str) -> None:
            self._fail(exchange, Outcome.UNREACHABLE, why)

        self._pool.connect(ready, failed)

    # --- what connections tell

    def answered(self, connection: Connection, exchange: Exchange) -> None:
        self._pool.give(connection)
        if exchange.reads[0].startswith(_ANSWERED):
            self._failures = 0
            self._completed += 1
            self._measured += self.phase == "measure"
            self._done(exchange)
            self._go_on(exchange)
        else:
            self._done(exchange)
            self._failed(exchange)

    def broken(self, connection: Connection, exchange: Exchange, why: str) -> None:
        self._pool.forget(connection)
        if exchange not in self._active:
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
        del self._active[exchange]
        self.trace.exchanges.append(exchange)

    def _go_on(self, exchange: Exchange) -> None:
        if self._plan.closed:
            if self.phase in ("warmup", "measure"):
                self._issue(exchange.slot, exchange.end_ns)
        elif self._waiting:
            waiting = self._waiting.popleft()
            self._send(waiting, max(exchange.end_ns, waiting.due_ns))

    def _fail(self, exchange: Exchange, outcome: Outcome, why: str) -> None:
        if exchange not in self._active:
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
            self._go_on(exchange)

    def _retry(self, slot: int) -> None:
        if self.phase in ("warmup", "measure"):
            self._issue(slot, now_ns())

    # --- phases

    def _beat(self, expirations: int) -> None:
        at_ns = now_ns()
        self._beats += 1
        if self.phase == "measure":
            self._heart.beat(expirations, at_ns)
        else:
            self._heart.skip(expirations)
        self._advance(at_ns)
        if self._beats % _SWEEP_BEATS == 0 and self.phase != "over":
            self._time_out(at_ns)
            if self._stop():
                self.trace.stopped = True
                self._finish()
            self._tick(self.phase, self._completed, (at_ns - self.trace.begin_ns) / 1e9)

    def _advance(self, at_ns: int) -> None:
        plan, trace = self._plan, self.trace
        if self.phase == "warmup":
            started = not plan.closed or self._next == len(self._starts_ns)
            if started and at_ns - trace.begin_ns >= plan.warmup_s * 1e9:
                self.phase = "measure"
                trace.start_ns = at_ns
                trace.cpu_s = -time.thread_time()
        elif self.phase == "measure":
            elapsed_s = (at_ns - trace.start_ns) / 1e9
            enough = elapsed_s >= plan.level_s and self._measured >= plan.min_requests
            if enough or elapsed_s >= plan.level_max_s:
                self._close_window(at_ns)
                self.phase = "drain"
        if self.phase == "drain" and not self._active and not self._waiting:
            self._finish()

    def _close_window(self, at_ns: int) -> None:
        self.trace.end_ns = at_ns
        self.trace.cpu_s += time.thread_time()

    def _time_out(self, at_ns: int) -> None:
        limit_ns = at_ns - int(self._plan.request_timeout_s * 1e9)
        why = f"no whole reply within {self._plan.request_timeout_s:g} s"
        for exchange in [e for e in self._waiting if e.due_ns < limit_ns]:
            self._waiting.remove(exchange)
            self._active[exchange] = None
            self._fail(exchange, Outcome.TIMED_OUT, why)
        for exchange, connection in [
            (e, c) for e, c in self._active.items() if e.due_ns < limit_ns
        ]:
            if connection is not None:
                connection.abort()
            self._fail(exchange, Outcome.TIMED_OUT, why)

    def _finish(self) -> None:
        if self.phase == "over":
            return
        at_ns = now_ns()
        if self.phase == "measure":
            self._close_window(at_ns)
        self.phase = "over"
        for exchange, connection in self._active.items():
            if connection is not None:
                connection.abort()
            exchange.outcome, exchange.end_ns = Outcome.ABANDONED, at_ns
            exchange.error = "given up when the load ended"
            self.trace.exchanges.append(exchange)
        self._active.clear()
        self.trace.over_ns = at_ns
        self.trace.loop_lag_ns = self._heart.lag_ns
        if not self._over.done():
            self._over.set_result(None)
