"""One connection and what travels on it: stamp first, keep the bytes, read them after the run."""

import asyncio
from array import array
from typing import Protocol, cast

from loadgen.clock import now_ns
from loadgen.http.protocol import Framing, NotHttp, UntilClose, framing, parse_head
from loadgen.http.response_buffer import Hoard, Packed
from loadgen.http.response_parser import Outcome
from loadgen.prompts.base import Ask


class Exchange:
    """One request and, as they come, the reads of its reply."""

    __slots__ = (
        "ask", "due_ns", "end_ns", "error", "outcome", "packed", "reads", "resent", "sent_ns", "slot",
        "stamps_ns", "status",
    )  # fmt: skip

    def __init__(self, ask: Ask, slot: int, due_ns: int) -> None:
        self.ask = ask
        self.slot = slot
        self.due_ns = due_ns
        self.sent_ns = 0
        self.end_ns = 0
        self.stamps_ns = array("q")
        self.reads: list[bytes] = []
        self.resent = False
        self.outcome = Outcome.COMPLETED  # until told otherwise, here or by the reply itself
        self.error = ""
        self.status = 0  # of the reply, once its head is whole
        self.packed: Packed | None = None  # in place of stamps and reads, some time after its end

    def pack(self, hoard: Hoard) -> None:
        self.packed = hoard.pack(self.stamps_ns, self.reads)
        self.stamps_ns, self.reads = array("q"), []


class Owner(Protocol):
    def answered(self, connection: "Connection", exchange: Exchange) -> None: ...
    def broken(self, connection: "Connection", exchange: Exchange, why: str) -> None: ...
    def idle_lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    __slots__ = (
        "_framing", "_owner", "_transport", "exchange", "idle_since_ns", "keeps_alive", "served",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._framing: Framing | None = None
        self._transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.idle_since_ns = 0
        self.keeps_alive = True
        self.served = False  # a whole reply came over it

    @property
    def usable(self) -> bool:
        transport = self._transport
        return self.keeps_alive and transport is not None and not transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.idle_since_ns = now_ns()

    def send(self, exchange: Exchange, request: bytes) -> None:
        assert self._transport is not None
        self.exchange = exchange
        self._framing = None
        exchange.sent_ns = now_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        stamp_ns = now_ns()
        exchange = self.exchange
        if exchange is None:
            self.abort()  # nobody asked
            return
        exchange.stamps_ns.append(stamp_ns)
        exchange.reads.append(data)
        if self._framing is None:
            self._begin(exchange)
        elif self._framing.ended(data, exchange.reads):
            self._finish(exchange)

    def _begin(self, exchange: Exchange) -> None:
        raw = b"".join(exchange.reads)
        try:
            head = parse_head(raw)
        except NotHttp:
            self.keeps_alive = False
            self._finish(exchange)
            return
        if head is None:
            return
        self.keeps_alive = head.keeps_alive
        exchange.status = head.status
        last = exchange.reads[-1]
        self._framing = framing(head, len(raw) - len(last))
        if self._framing.ended(last, exchange.reads):
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        exchange.end_ns = exchange.stamps_ns[-1]
        self.exchange = None
        self.served = True
        self.idle_since_ns = exchange.end_ns
        self._owner.answered(self, exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.exchange
        self.keeps_alive = False
        if exchange is None:
            self._owner.idle_lost(self)
        elif isinstance(self._framing, UntilClose) and exc is None:
            self._finish(exchange)
        else:
            self.exchange = None
            self._owner.broken(self, exchange, str(exc) if exc else "closed by the server")

    def abort(self) -> None:
        """Nothing that still comes is anybody's."""
        self.exchange = None
        self.keeps_alive = False
        if self._transport is not None:
            self._transport.abort()
