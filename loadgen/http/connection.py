"""One connection and its exchanges: each read is timestamped and kept; parsing is left for later."""

import asyncio
from array import array
from typing import Protocol, cast

from loadgen.clock import now_ns
from loadgen.http.protocol import Framing, NotHttp, UntilClose, framing, parse_head
from loadgen.http.response import Outcome, Response
from loadgen.http.response_buffer import Packed, ResponseBuffer
from loadgen.prompts.base import Request


class Exchange:
    """One request, and the reads of its response as they arrive."""

    __slots__ = (
        "due_ns", "end_ns", "error", "outcome", "packed", "reads", "request", "resent", "response", "sent_ns",
        "slot", "stamps_ns", "status",
    )  # fmt: skip

    def __init__(self, request: Request, slot: int, due_ns: int) -> None:
        self.request = request
        self.slot = slot
        self.due_ns = due_ns
        self.sent_ns = 0
        self.end_ns = 0
        self.stamps_ns = array("q")
        self.reads: list[bytes] = []
        self.resent = False
        self.outcome = Outcome.COMPLETED  # unless the connection or the response fails
        self.error = ""
        self.status = 0  # HTTP status, once the head has arrived
        self.packed: Packed | None = None  # in place of stamps and reads, once stored
        self.response: Response | None = None  # where it was parsed at once

    def pack(self, buffer: ResponseBuffer) -> None:
        """Moves the reads into the buffer."""
        self.packed = buffer.pack(self.stamps_ns, self.reads)
        self.stamps_ns, self.reads = array("q"), []


class Owner(Protocol):
    """Is notified of what happens on a connection."""

    def answered(self, connection: "Connection", exchange: Exchange) -> None:
        """A whole response has arrived, whatever its status."""

    def broken(self, connection: "Connection", exchange: Exchange, why: str) -> None:
        """The connection was lost before the response was whole."""

    def idle_lost(self, connection: "Connection") -> None:
        """The connection was lost between exchanges."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; HTTP/1.1 without pipelining."""

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
        self.served = False  # whether a whole response has arrived on it

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        transport = self._transport
        return self.keeps_alive and transport is not None and not transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self.idle_since_ns = now_ns()

    def send(self, exchange: Exchange, data: bytes) -> None:
        """Writes an encoded request and stamps `sent_ns`."""
        assert self._transport is not None
        self.exchange = exchange
        self._framing = None
        exchange.sent_ns = now_ns()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with each read."""
        stamp_ns = now_ns()
        exchange = self.exchange
        if exchange is None:
            self.abort()  # data without a request
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
        """Called by asyncio."""
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
        """Closes the connection and drops its exchange, without a notification of the owner."""
        self.exchange = None
        self.keeps_alive = False
        if self._transport is not None:
            self._transport.abort()
