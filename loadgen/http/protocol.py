"""HTTP/1.1 on the wire: where requests go, and where a response ends."""

import re
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from operator import add
from pathlib import Path
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from loadgen.errors import BadTarget
from loadgen.workload.request_overrides import RequestOverrides

INSECURE = "https+insecure"
HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"\n\r\n0\r\n\r\n"  # preceded by the end of an event
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: |\Z)")
_LENGTH = re.compile(r"[0-9]{1,16}")
_CHUNK_SIZE = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"
_FIRST_CHUNK = re.compile(_CHUNK_SIZE).match
_SIZES = re.compile(rb"(?:[0-9A-Fa-f]{1,16}\r\n)*").fullmatch
_LAST_PARTS = [b"0", b"", b""]
_NEXT_CHUNK = re.compile(rb"\r\n" + _CHUNK_SIZE).match


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    prefix: str  # of all paths: "/v1", "/some/where/v1"
    api_key: str | None = field(default=None, repr=False)
    verified: bool = True  # whether the certificate is checked
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    @classmethod
    def parse(
        cls, url: str, api_key: str | None = None, request: RequestOverrides | None = None
    ) -> "Target":
        """`https+insecure://` is https without a check of the certificate. Raises BadTarget."""
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise BadTarget("the API key has characters that are not allowed in a header")
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise BadTarget(f"{url}: a URL has ASCII characters only, and no spaces: encode others")
        if "://" not in url:
            url = f"http://{url}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadTarget(f"{url}: {error}") from error
        if parts.scheme not in ("http", "https", INSECURE) or not parts.hostname or port == 0:
            raise BadTarget(f"{url}: expected http://HOST:PORT or https://HOST:PORT")
        if parts.query or parts.fragment:
            raise BadTarget(f"{url}: remove ?query and #fragment: they are not sent")
        if parts.username is not None:
            raise BadTarget("a user name in the URL is not sent: use an API key")
        scheme: Literal["http", "https"] = "http" if parts.scheme == "http" else "https"
        path = parts.path.rstrip("/")
        prefix = path if path.endswith("/v1") else f"{path}/v1"
        if not (prefix.isascii() and prefix.isprintable()) or " " in prefix:
            raise BadTarget(f"{url!r}: escape other characters than letters, as in %20")
        port = port or (443 if scheme == "https" else 80)
        options = request or RequestOverrides()
        return cls(
            scheme,
            _host(url, parts.hostname),
            port,
            prefix,
            api_key,
            parts.scheme != INSECURE and options.verify_tls,
            options.ca_file,
            options.client_cert,
            options.client_key,
        )

    @property
    def authority(self) -> str:
        """HOST:PORT, as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _host(url: str, name: str) -> str:
    """A host name in ASCII. Raises BadTarget."""
    try:
        return name.encode("idna").decode() if ":" not in name else name
    except UnicodeError:
        raise BadTarget(f"{url!r}: {name!r} is no name of a host") from None


@dataclass(frozen=True, slots=True)
class Head:
    """The parsed head of a response."""

    status: int
    headers: dict[str, str]  # names in lower case
    length: int  # bytes of the head, with any interim (1xx) heads before it
    http11: bool

    @property
    def chunked(self) -> bool:
        """Whether the body has chunked transfer coding."""
        codings = self.headers.get("transfer-encoding", "").lower().split(",")
        return codings[-1].strip(" \t") == "chunked"

    @property
    def content_length(self) -> int | None:
        """Content-Length; None if it is missing, invalid or overridden by Transfer-Encoding."""
        value = self.headers.get("content-length", "")
        ruled_out = "transfer-encoding" in self.headers or not _LENGTH.fullmatch(value)
        return None if ruled_out else int(value)

    @property
    def bodiless(self) -> bool:
        """Whether this status has no body."""
        return self.status in (204, 304)

    @property
    def until_close(self) -> bool:
        """Whether the body ends with the connection."""
        return not (self.chunked or self.bodiless) and self.content_length is None

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection stays open after the response."""
        connection = self.headers.get("connection", "").lower()
        if self.until_close or "close" in connection:
            return False
        return self.http11 or "keep-alive" in connection


class NotHttp(ValueError):
    """The bytes are not an HTTP response."""


def parse_head(raw: bytes) -> Head | None:
    """The head of a response; None while it is incomplete. Raises NotHttp."""
    start = 0
    while True:
        end = raw.find(HEAD_END, start)
        if end < 0:
            if not b"HTTP/1."[: len(raw) - start].startswith(raw[start : start + 7]):
                raise NotHttp(raw[start : start + 60].decode("latin-1"))
            return None
        first, *lines = raw[start:end].decode("latin-1").split("\r\n")
        found = _STATUS_LINE.match(first)
        if found is None:
            raise NotHttp(first[:60])
        status = int(found[2])
        start = end + len(HEAD_END)
        if status >= 200:
            break
    fields = (line.partition(":") for line in lines)
    headers = {name.strip(" \t").lower(): value.strip(" \t") for name, _, value in fields}
    head = Head(status, headers, start, found[1] == "1")
    if head.until_close and "content-length" in headers and "transfer-encoding" not in headers:
        raise NotHttp(f"Content-Length: {headers['content-length'][:60]}")
    return head


class Framing(Protocol):
    """Decides after each read whether the response is complete. Runs on the hot path."""

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        """Whether the response ends with `read`, the last of `reads`."""


class UntilClose:
    """The body ends with the connection."""

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        """Never: see `Connection.connection_lost`."""
        return False


class FixedLength:
    """The body has a known length."""

    def __init__(self, total: int, so_far: int) -> None:
        self._left = total - so_far

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        """After the last byte."""
        self._left -= len(read)
        return self._left <= 0


class ChunkedStream:
    """A chunked body. An event stream ends where a read ends with the last chunk.

    No event contains an empty line after a line `0`. Any other read that ends with an empty line may
    end in trailers or within the body: there all chunks are counted. Two empty lines are an event
    with CRLF, never the end.
    """

    def __init__(self, head: Head) -> None:
        self._events = head.status == 200 and is_event_stream(head)
        self._body_at = head.length

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        """After the last chunk and its trailers."""
        tail = read if len(read) >= len(_LAST_CHUNK) else _tail(reads)
        if not tail.endswith(HEAD_END) or tail.endswith(b"\r\n" + HEAD_END):
            return False
        if self._events and tail.endswith(_LAST_CHUNK):
            return True
        return unchunk(b"".join(reads), self._body_at).whole


def _tail(reads: list[bytes]) -> bytes:
    tail = b""
    for read in reversed(reads):
        tail = read + tail
        if len(tail) >= len(_LAST_CHUNK):
            break
    return tail


def is_event_stream(head: Head) -> bool:
    """Whether the Content-Type is that of server-sent events."""
    return head.headers.get("content-type", "").lower().startswith("text/event-stream")


def framing(head: Head, received: int) -> Framing:
    """How the end of a response is found. `received`: bytes that arrived before the next call of `ended`."""
    if head.bodiless:
        return FixedLength(head.length, received)
    if head.chunked:
        return ChunkedStream(head)
    if head.content_length is not None:
        return FixedLength(head.length + head.content_length, received)
    return UntilClose()


class Payload(NamedTuple):
    """The pieces of a body, the offset of each in the raw bytes, and whether the body is complete."""

    pieces: list[bytes]
    starts: list[int]
    whole: bool


def unchunk(raw: bytes, begin: int = 0) -> Payload:
    """The payload of a chunked body that begins at `begin`."""
    return _even_chunks(raw, begin) or _chunks(raw, begin)


def _even_chunks(raw: bytes, begin: int) -> Payload | None:
    """Three times as fast as `_chunks`; None unless the body is complete and has CRLF only between chunks."""
    parts = raw[begin:].split(b"\r\n")
    if parts[-3:] != _LAST_PARTS:
        return None
    sizes, pieces = parts[:-3:2], parts[1:-3:2]
    lengths = list(map(len, pieces))
    if len(sizes) != len(pieces) or not all(lengths):
        return None
    if not _SIZES(b"\r\n".join([*sizes, b""])):  # CRLF can't occur in a size
        return None
    if list(map(int, sizes, repeat(16))) != lengths:
        return None
    # Between two pieces: CRLF, a size, CRLF.
    steps = map(add, [begin - 2, *lengths[:-1]], map(len, sizes))
    return Payload(pieces, list(accumulate([step + 4 for step in steps])), True)


def _chunks(raw: bytes, begin: int) -> Payload:
    pieces: list[bytes] = []
    starts: list[int] = []
    found = _FIRST_CHUNK(raw, begin)
    while found:
        start, size = found.end(), int(found[1], 16)
        if size == 0:
            return Payload(pieces, starts, raw.find(HEAD_END, start - 2) >= 0)
        pieces.append(raw[start : start + size])
        starts.append(start)
        found = _NEXT_CHUNK(raw, start + size)
    return Payload(pieces, starts, False)
