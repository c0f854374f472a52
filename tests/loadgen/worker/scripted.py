"""One scripted server behind the dispatchers of both clocks; the wall clock is moved by hand."""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from loadgen.http.connection import Exchange
from loadgen.http.response import Outcome
from loadgen.prompts.base import Request
from loadgen.worker import dispatcher as wall_clock
from loadgen.worker.dispatcher import Dispatcher
from loadgen.worker.messages import Plan
from loadgen.worker.virtual_dispatcher import VirtualDispatcher, VirtualExchange, ns_of

Kind = Literal["answer", "refuse", "hang"]
BEGIN_NS = ns_of(0.0)


@dataclass(frozen=True, slots=True)
class Reply:
    kind: Kind
    delay_s: float


@dataclass(frozen=True, slots=True)
class Close:
    at_s: float
    drain: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A request of this slot was sent, or ended; times from the level's start."""

    slot: int
    at_s: float
    what: str


class Conversations:
    """Requests by number; each session has `turns`, with a think time before every second one."""

    size = None
    due_s: NDArray[np.float64] | None = None
    longest_tokens = 9

    def __init__(self, turns: int = 1) -> None:
        self._turns = turns
        self.multi_turn = turns > 1

    def first(self, number: int) -> Request:
        return Request(b"%d" % number, 1, 1, number)

    def next(self, request: Request, answer: str) -> Request | None:
        turn = request.turn + 1
        if turn >= self._turns:
            return None
        return Request(request.prompt, 1, 1, request.session, turn, 0.0301 if turn % 2 else 0.0)


def plan(**changes: Any) -> Plan:
    base: dict[str, Any] = {
        "closed": True,
        "starts_ns": np.array([0, 7_000_001], np.int64),
        "max_in_flight": None,
        "max_requests": None,
        "request_timeout_s": 1.0,
        "give_up_after": 50,
        "first_number": 0,
        "connections": 2,
        "drain": True,
    }
    return Plan(**base | changes)


# --- the virtual clock


class ScriptedServer:
    def __init__(self, script: Sequence[Reply]) -> None:
        self._script = script
        self._sent = 0
        self._replies: list[tuple[float, int, VirtualExchange, Kind]] = []
        self.now_s = 0.0
        self.abandoned: list[VirtualExchange] = []

    @property
    def next_s(self) -> float | None:
        return self._replies[0][0] if self._replies else None

    def send(self, sent: VirtualExchange, at_s: float) -> None:
        reply = self._script[self._sent % len(self._script)]
        self._sent += 1
        if reply.kind != "hang":
            heapq.heappush(self._replies, (at_s + reply.delay_s, self._sent, sent, reply.kind))

    def advance(self, until_s: float) -> list[VirtualExchange]:
        if not self._replies or self._replies[0][0] > until_s:
            return []
        self.now_s, _, sent, kind = heapq.heappop(self._replies)
        sent.end_s = self.now_s
        sent.error = "refused" if kind == "refuse" else ""
        return [sent]

    def abandon(self, sent: VirtualExchange) -> None:
        self.abandoned.append(sent)
        self._replies = [reply for reply in self._replies if reply[2] is not sent]
        heapq.heapify(self._replies)


def on_virtual_clock(
    plan: Plan, script: Sequence[Reply], close: Close, turns: int = 1
) -> tuple[VirtualDispatcher, list[Event]]:
    dispatcher = VirtualDispatcher(ScriptedServer(script), plan, Conversations(turns), 0.0)
    while dispatcher.now_s < close.at_s and dispatcher.step(close.at_s):
        pass
    if dispatcher.now_s >= close.at_s:
        dispatcher.close(close.drain, ns_of(dispatcher.now_s))
        dispatcher.drain()
    return dispatcher, events(dispatcher.ended, lambda each: each.error == "refused")


# --- the wall clock, moved by hand


class Wall:
    """A clock that jumps from one call to the next; `at` schedules a call."""

    def __init__(self) -> None:
        self.now_ns = BEGIN_NS - 1
        self._calls: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, due_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (max(due_ns, self.now_ns), next(self._order), call))

    def step(self) -> None:
        due_ns, _, call = heapq.heappop(self._calls)
        self.now_ns = due_ns
        call()


class HandAlarm:
    """`loadgen.clock.Alarm` on that clock."""

    def __init__(self, wall: Wall, callback: Callable[[int], None]) -> None:
        self._wall, self._callback = wall, callback
        self._setting = 0

    def at(self, due_ns: int, every_ns: int = 0) -> None:
        self._setting += 1
        setting = self._setting

        def fire() -> None:
            if setting == self._setting:
                if every_ns:
                    self.at(self._wall.now_ns + every_ns, every_ns)
                self._callback(1)

        self._wall.at(due_ns, fire)


class ScriptedConnection:
    usable = served = True
    idle_since_ns = 0

    def __init__(self, pool: "ScriptedPool") -> None:
        self._pool = pool
        self._exchange: Exchange | None = None

    def send(self, exchange: Exchange, raw: bytes) -> None:
        pool = self._pool
        self._exchange = exchange
        exchange.sent_ns = pool.wall.now_ns
        reply = pool.script[pool.sent % len(pool.script)]
        pool.sent += 1

        def replied() -> None:
            if self._exchange is exchange:
                exchange.status = 200 if reply.kind == "answer" else 503
                exchange.end_ns = pool.wall.now_ns
                self._exchange = None
                pool.owner.answered(self, exchange)  # type: ignore[arg-type]

        if reply.kind != "hang":
            pool.wall.at(exchange.sent_ns + round(reply.delay_s * 1e9), replied)

    def abort(self) -> None:
        self._exchange = None


class ScriptedPool:
    owner: Dispatcher
    reuse = True

    def __init__(self, wall: Wall, script: Sequence[Reply]) -> None:
        self.wall, self.script = wall, script
        self.sent = 0

    def take(self) -> ScriptedConnection:
        return ScriptedConnection(self)

    def give(self, connection: ScriptedConnection) -> None: ...


class NoEncoder:
    def encode(self, request: Request) -> bytes:
        return request.prompt


def on_wall_clock(
    plan: Plan, script: Sequence[Reply], close: Close, turns: int = 1
) -> tuple[Dispatcher, list[Event]]:
    wall = Wall()
    pool = ScriptedPool(wall, script)
    encoder: Any = NoEncoder()
    dispatcher = Dispatcher(plan, (0, 1), encoder, Conversations(turns), lambda _: None)
    pool.owner = dispatcher

    @contextmanager
    def by_hand(_: object, callback: Callable[[int], None]) -> Iterator[HandAlarm]:
        yield HandAlarm(wall, callback)

    async def drive() -> None:
        running = asyncio.create_task(dispatcher.run(pool, BEGIN_NS))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        close_ns = BEGIN_NS + round(close.at_s * 1e9)
        wall.at(close_ns, lambda: dispatcher.close(close.drain, wall.now_ns))
        while dispatcher.phase != "over":
            wall.step()
        await running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wall_clock, "now_ns", lambda: wall.now_ns)
        patch.setattr(wall_clock, "alarm", by_hand)
        asyncio.run(drive())
    return dispatcher, events(dispatcher.ended, lambda each: each.status not in (0, 200))


def events(ended: Sequence[Any], refused: Callable[[Any], bool]) -> list[Event]:
    """All sends and all ends, each in its order."""

    def since_begin_s(at_ns: int) -> float:
        return (at_ns - BEGIN_NS) / 1e9 if at_ns else math.nan

    def end(each: Any) -> str:
        if each.outcome in (Outcome.TIMED_OUT, Outcome.ABANDONED):
            return str(each.outcome.name)
        return "refused" if refused(each) else "completed"

    sends = sorted(
        (Event(each.slot, since_begin_s(each.sent_ns), "sent") for each in ended if each.sent_ns),
        key=lambda event: (event.at_s, event.slot),
    )
    return sends + [Event(each.slot, since_begin_s(each.end_ns), end(each)) for each in ended]
