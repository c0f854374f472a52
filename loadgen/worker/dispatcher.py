"""One load level as a worker process runs it: callbacks only, no task and no timer per request."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadgen.clock import Heartbeat, alarm, now_ns
from loadgen.http.connection import Connection, Exchange
from loadgen.http.connection_pool import ConnectionPool
from loadgen.http.quick_check import may_have_failed
from loadgen.http.request_encoder import RequestEncoder
from loadgen.http.response import Outcome
from loadgen.http.response_parser import answer_text, parse_response
from loadgen.prompts.base import Source
from loadgen.worker.dispatch_policy import SWEEP_NS, DispatchPolicy
from loadgen.worker.messages import Plan

BEAT_NS = 10_000_000
_SWEEP_BEATS = SWEEP_NS // BEAT_NS
_RESEND_NS = 10**9


@dataclass(slots=True)
class DispatchLog:
    """How the dispatcher kept time at a level; `*_at_ns` are the times of the samples beside them."""

    begin_ns: int = 0
    over_ns: int = 0
    lateness_ns: list[int] = field(default_factory=list)
    lateness_at_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    cpu_at_ns: list[int] = field(default_factory=list)
    loop_lag_ns: list[int] = field(default_factory=list)
    resent: int = 0
    connected: int = 0


class Dispatcher(DispatchPolicy[Exchange, Connection | None]):
    """The policy on the wall clock, over HTTP. `on_beat` is called a hundred times a second."""

    def __init__(
        self,
        plan: Plan,
        share: tuple[int, int],
        encoder: RequestEncoder,
        source: Source,
        on_beat: Callable[["Dispatcher"], None],
    ) -> None:
        super().__init__(plan, share, source, Exchange)
        self.log = DispatchLog()
        self._encoder = encoder
        self._source = source
        self._multi_turn = source.multi_turn
        self._on_beat = on_beat
        self._held: dict[int, Connection] = {}  # by slot: a session keeps its connection
        self._beats = 0

    def attach(self, pool: ConnectionPool) -> None:
        """The pool that has this dispatcher as its owner. Its connections may be lost before the level."""
        self._pool = pool

    async def run(self, pool: ConnectionPool, begin_ns: int) -> None:
        """From `begin_ns` to the end of the level. `pool` must have this dispatcher as its owner."""
        loop = asyncio.get_running_loop()
        self.attach(pool)
        self._over: asyncio.Future[None] = loop.create_future()
        self.log.begin_ns = begin_ns
        self.queue.begin(begin_ns)
        self._heart = Heartbeat(BEAT_NS, begin_ns)
        with alarm(loop, self._fire) as self._alarm, alarm(loop, self._beat) as beats:
            self._arm()
            beats.at(begin_ns, BEAT_NS)
            await self._over

    # --- sending

    def _arm(self) -> None:
        if due_ns := self.queue.due_ns:
            self._alarm.at(due_ns)

    def _fire(self, _expirations: int) -> None:
        self._issue_due()
        if self.phase == "measure":
            self._arm()

    def _issue_due(self) -> None:
        while self.phase == "measure" and (due := self.queue.pop(now_ns())):
            due_ns, slot, request = due
            self._issue(due_ns, slot, request)

    def close(self, drain: bool, at_ns: int) -> None:
        """Sends first what is due by now: a late client has late requests, not fewer."""
        if drain:
            self._issue_due()
        super().close(drain, at_ns)

    def _send(self, exchange: Exchange, free_ns: int) -> Connection | None:
        connection = self._held.pop(exchange.slot, None) if self._held else None
        if connection is None or not connection.usable:
            connection = self._pool.take()
        if connection is None:
            self._connect(exchange, free_ns)
        else:
            self._put(connection, exchange, free_ns)
        return connection

    def _put(self, connection: Connection, exchange: Exchange, free_ns: int) -> None:
        connection.send(exchange, self._encoder.encode(exchange.request))
        log, sent_ns = self.log, exchange.sent_ns
        log.lateness_ns.append(sent_ns - free_ns)
        log.lateness_at_ns.append(sent_ns)

    def _connect(self, exchange: Exchange, free_ns: int) -> None:
        self.log.connected += 1

        def ready(connection: Connection) -> None:
            if exchange not in self.active:  # timed out meanwhile
                self._pool.give(connection)
                return
            self.active[exchange] = connection
            self._put(connection, exchange, free_ns)

        def failed(why: str) -> None:
            if exchange in self.active:
                self._fail(exchange, Outcome.UNREACHABLE, why, now_ns())

        self._pool.connect(ready, failed)

    def _cancel(self, exchange: Exchange, carrier: Connection | None) -> None:
        if carrier is not None:
            carrier.abort()

    # --- events of connections

    def answered(self, connection: Connection, exchange: Exchange) -> None:
        """A whole reply was received, whatever its status."""
        if exchange.status == 200 and exchange.reads and may_have_failed(exchange.reads):
            self._parse(exchange)
        if exchange.status != 200 or exchange.outcome is not Outcome.COMPLETED:
            self._pool.give(connection)
            self._failed(exchange)
            return
        turn = None
        if self._multi_turn and self.phase == "measure":
            turn = self._source.next(exchange.request, answer_text(exchange.reads))
        if turn is not None and connection.usable:
            self._held[exchange.slot] = connection
        else:
            self._pool.give(connection)
        self._completed(exchange, turn)

    def _parse(self, exchange: Exchange) -> None:
        lengths, raw = list(map(len, exchange.reads)), b"".join(exchange.reads)
        asked = self._encoder.asked(exchange.request)
        response = parse_response(exchange.stamps_ns, lengths, raw, asked)
        exchange.response = response
        exchange.outcome, exchange.error = response.outcome, response.error

    def broken(self, connection: Connection, exchange: Exchange, why: str) -> None:
        """A connection was lost before the end of its reply."""
        self._pool.forget(connection)
        if exchange not in self.active:
            return
        at_ns = now_ns()
        if not exchange.reads and not exchange.resent and at_ns - exchange.sent_ns < _RESEND_NS:
            # The server had closed the idle connection: the request never reached it.
            exchange.resent = True
            self.log.resent += 1
            if connection.served and exchange.sent_ns - connection.idle_since_ns < _RESEND_NS:
                self._pool.reuse = False  # it closes after each reply without announcing it
            self._connect(exchange, at_ns)
            return
        self._fail(exchange, Outcome.CUT, f"connection lost: {why}", at_ns)

    def idle_lost(self, connection: Connection) -> None:
        """The server closed an idle connection."""
        self._pool.forget(connection)

    # --- beats

    def _beat(self, expirations: int) -> None:
        at_ns = now_ns()
        self._heart.beat(expirations, at_ns)
        if self._beats % _SWEEP_BEATS == 0 and self.phase != "over":
            self.log.cpu_ns.append(time.thread_time_ns())
            self.log.cpu_at_ns.append(at_ns)
            self.time_out(at_ns)
        self._beats += 1
        self._on_beat(self)
        if self.complete:
            self.finish(at_ns)

    def _on_finish(self, at_ns: int) -> None:
        self.log.over_ns = at_ns
        self.log.loop_lag_ns = self._heart.lag_ns
        if not self._over.done():
            self._over.set_result(None)
