"""One connection of an HTTP/1.1 server, as bare as can be: heads and bodies in, bytes out."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

MOST_HEAD, MOST_BODY = 64 << 10, 64 << 20
END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Incoming:
    method: str
    path: str
    body: bytes


class Malformed(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """`handle` is given one request at a time, and calls `finished` once its answer is written.

    `lost` is called when the client went away before that.
    """

    def __init__(
        self,
        handle: "Callable[[Connection, Incoming], None]",
        complain: "Callable[[int, str], bytes]",
        lost: "Callable[[Connection], None]",
    ) -> None:
        self._handle, self._complain, self._lost = handle, complain, lost
        self._received = bytearray()
        self._busy = self._queued = self._last = False
        self._wanted = 0  # bytes until the request is whole, once its head is read
        self.answer: object = None  # what is being answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= self._wanted:
            self._read()

    def connection_lost(self, error: Exception | None) -> None:
        if self._busy:
            self._lost(self)

    def write(self, data: bytes) -> None:
        """Straight to the socket while it takes all; the transport's own way costs three times more."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._queued:
            if transport.get_write_buffer_size():
                transport.write(data)
                return
            self._queued = False
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            transport.abort()
            return
        if sent < len(data):
            self._queued = True
            transport.write(data[sent:])

    def reply(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        """A whole answer."""
        closing = b"Connection: close\r\n" if self._last else b""
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
        length = f"Content-Length: {len(body)}\r\n".encode()
        self.write(b"".join((head.encode(), length, closing, b"\r\n", body)))
        self.finished()

    def finished(self) -> None:
        self._busy, self.answer = False, None
        if self._last:
            self._transport.close()
        elif self._received:
            self._read()

    def _read(self) -> None:
        """Whole requests, one after the other; the next waits for the answer to the one before."""
        while not self._busy and not self._last:
            try:
                incoming = self._next()
            except Malformed as error:
                self._busy = self._last = True
                self.reply(self._complain(error.status, str(error)), status=error.status)
                return
            if incoming is None:
                return
            self._busy = True
            self._handle(self, incoming)

    def _next(self) -> Incoming | None:
        received = self._received
        end = received.find(END)
        if end < 0:
            if len(received) > MOST_HEAD:
                raise Malformed(431, "the head is too long")
            self._wanted = 0
            return None
        first, *lines = bytes(received[:end]).decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise Malformed(400, "no HTTP request")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = self._body(headers, end + len(END))
        if body is None:
            return None
        said = headers.get("connection", "").lower()
        self._last = said == "close" or (parts[2] == "HTTP/1.0" and said != "keep-alive")
        return Incoming(parts[0], parts[1].partition("?")[0], body)

    def _body(self, headers: dict[str, str], begin: int) -> bytes | None:
        """None until all of it is there; then it is taken."""
        if "transfer-encoding" in headers:
            return self._chunks(begin)
        told = headers.get("content-length", "0")
        if not told.isdecimal():
            raise Malformed(400, "Content-Length is no number")
        if int(told) > MOST_BODY:
            raise Malformed(413, f"the body has more than {MOST_BODY} bytes")
        whole = begin + int(told)
        if len(self._received) < whole:
            if headers.get("expect", "").lower() == "100-continue" and not self._wanted:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._wanted = whole
            return None
        self._wanted = 0
        body = bytes(self._received[begin:whole])
        del self._received[:whole]
        return body

    def _chunks(self, at: int) -> bytes | None:
        received = self._received
        parts: list[bytes] = []
        if len(received) > MOST_BODY:
            raise Malformed(413, f"the body has more than {MOST_BODY} bytes")
        while (line := received.find(b"\r\n", at)) >= 0:
            try:
                size = int(bytes(received[at:line]).partition(b";")[0], 16)
            except ValueError:
                raise Malformed(400, "a chunk without a size") from None
            begin, after = line + 2, line + 4 + size
            if len(received) < after:
                return None
            if not size:  # trailers are not expected
                del received[:after]
                return b"".join(parts)
            parts.append(bytes(received[begin : begin + size]))
            at = after
        return None
