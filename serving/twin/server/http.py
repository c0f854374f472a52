"""One connection of a minimal HTTP/1.1 server: requests in, bytes out."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

MAX_HEAD_BYTES, MAX_BODY_BYTES = 64 << 10, 64 << 20
END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request; `path` without its query. `authorization`: that header, empty without it."""

    method: str
    path: str
    body: bytes
    authorization: str = ""


class HttpError(Exception):
    """The request is malformed or too large; answered with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """Hands `handle` one request at a time; `reply` or `finished` ends it.

    `error_body`: the body of an error by status and message. `disconnected` is called if the client closes the
    connection before the response is complete.
    """

    def __init__(
        self,
        handle: "Callable[[Connection, HttpRequest], None]",
        error_body: "Callable[[int, str], bytes]",
        disconnected: "Callable[[Connection], None]",
    ) -> None:
        self._handle, self._error_body = handle, error_body
        self._disconnected = disconnected
        self._received = bytearray()
        self._busy = self._queued = self._last = False
        self._expected = 0  # bytes of the whole request, once its head is read
        self.response: object = None  # in progress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """asyncio: some bytes of a request."""
        self._received += data
        if len(self._received) >= self._expected:
            self._read()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the connection is closed, by either side."""
        if self._busy:
            self._disconnected(self)

    def write(self, data: bytes) -> None:
        """Writes to the socket directly while it accepts all bytes: the transport costs three times as much."""
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
        """Writes a whole response; `kind`: its content type."""
        closing = b"Connection: close\r\n" if self._last else b""
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
        length = f"Content-Length: {len(body)}\r\n".encode()
        self.write(b"".join((head.encode(), length, closing, b"\r\n", body)))
        self.finished()

    def finished(self) -> None:
        """The response is complete; the next request, if any, is handled."""
        self._busy, self.response = False, None
        if self._last:
            self._transport.close()
        elif self._received:
            self._read()

    def _read(self) -> None:
        """Handles whole requests in order; each waits for the response to the one before."""
        while not self._busy and not self._last:
            try:
                request = self._next()
            except HttpError as error:
                self._busy = self._last = True
                self.reply(self._error_body(error.status, str(error)), status=error.status)
                return
            if request is None:
                return
            self._busy = True
            self._handle(self, request)

    def _next(self) -> HttpRequest | None:
        received = self._received
        end = received.find(END)
        if end < 0:
            if len(received) > MAX_HEAD_BYTES:
                raise HttpError(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
            self._expected = 0
            return None
        first, *lines = bytes(received[:end]).decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise HttpError(400, "not an HTTP/1 request")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = self._body(headers, end + len(END))
        if body is None:
            return None
        connection = headers.get("connection", "").lower()
        closes_by_default = parts[2] == "HTTP/1.0"
        self._last = connection == "close" or (closes_by_default and connection != "keep-alive")
        authorization = headers.get("authorization", "")
        return HttpRequest(parts[0], parts[1].partition("?")[0], body, authorization)

    def _body(self, headers: dict[str, str], begin: int) -> bytes | None:
        """The body, taken out of the buffer; None until all of it has arrived."""
        if "transfer-encoding" in headers:
            return self._chunks(begin)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise HttpError(400, "Content-Length is not a number")
        if int(length) > MAX_BODY_BYTES:
            raise HttpError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        whole = begin + int(length)
        if len(self._received) < whole:
            if headers.get("expect", "").lower() == "100-continue" and not self._expected:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expected = whole
            return None
        self._expected = 0
        body = bytes(self._received[begin:whole])
        del self._received[:whole]
        return body

    def _chunks(self, at: int) -> bytes | None:
        received = self._received
        parts: list[bytes] = []
        if len(received) > MAX_BODY_BYTES:
            raise HttpError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        while (line := received.find(b"\r\n", at)) >= 0:
            try:
                size = int(bytes(received[at:line]).partition(b";")[0], 16)
            except ValueError:
                raise HttpError(400, "a chunk has no valid size") from None
            begin, after = line + 2, line + 4 + size
            if len(received) < after:
                return None
            if not size:  # trailers are not expected
                del received[:after]
                return b"".join(parts)
            parts.append(bytes(received[begin : begin + size]))
            at = after
        return None
