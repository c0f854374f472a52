"""Bytes on the wire: how a request is written, and how to tell that a reply has ended."""

import re
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from operator import add
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from loadgen.errors import BadTarget
from loadgen.prompts.base import Ask
from loadgen.workload.workload import Workload

INSECURE = "https+insecure"
HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"\n\r\n0\r\n\r\n"  # after the line end of an event
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: |\Z)")
_LENGTH = re.compile(r"[0-9]{1,16}")
_CHUNK_SIZE = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"
_FIRST_CHUNK = re.compile(_CHUNK_SIZE).match
_SIZES = re.compile(rb"(?:[0-9A-Fa-f]{1,16}\r\n)*").fullmatch
_LAST_PARTS = [b"0", b"", b""]
_NEXT_CHUNK = re.compile(rb"\r\n" + _CHUNK_SIZE).match


@dataclass(frozen=True, slots=True)
class Target:
    scheme: Literal["http", "https"]
    host: str
    port: int
    prefix: str  # of every path: "/v1", or "/some/where/v1"
    api_key: str | None = field(default=None, repr=False)
    verified: bool = True  # whether the certificate has to be one that is trusted

    @classmethod
    def parse(cls, url: str, api_key: str | None = None) -> "Target":
        """`https+insecure://` is https with a certificate that nobody looks at."""
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise BadTarget("the API key holds characters that a header can't")
        if "://" not in url:
            url = f"http://{url}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadTarget(f"{url}: {error}") from error
        if parts.scheme not in ("http", "https", INSECURE) or not parts.hostname:
            raise BadTarget(f"{url}: expected http://HOST:PORT or https://HOST:PORT")
        if parts.query or parts.fragment:
            raise BadTarget(f"{url}: expected no ?query and no #fragment: neither is sent")
        if parts.username is not None:
            raise BadTarget("a user in the URL is not sent: use an API key")
        scheme: Literal["http", "https"] = "http" if parts.scheme == "http" else "https"
        path = parts.path.rstrip("/")
        prefix = path if path.endswith("/v1") else f"{path}/v1"
        port = port or (443 if scheme == "https" else 80)
        verified = parts.scheme != INSECURE
        return cls(scheme, parts.hostname, port, prefix, api_key, verified)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Requests:
    """Whole requests. Only the prompt and the length of the answer differ from one to the next."""

    def __init__(self, target: Target, model: str, workload: Workload) -> None:
        chat = workload.endpoint == "chat"
        route = "/chat/completions" if chat else "/completions"
        key = f"Authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
        self._head = (
            f"POST {target.prefix}{route} HTTP/1.1\r\nHost: {target.authority}\r\n"
            f"Content-Type: application/json\r\nAccept: text/event-stream\r\n{key}"
        ).encode()
        fields: dict[str, object] = {
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True}
            if workload.continuous_usage
            else {"include_usage": True},
        }
        if workload.ignore_eos:
            fields["ignore_eos"] = True
        self._after = b"," + msgspec.json.encode(fields)[1:]
        prompt = b',"messages":' if chat else b',"prompt":'
        self._before = b'{"model":' + msgspec.json.encode(model) + b',"max_tokens":'
        self._prompt = prompt

    def encoded(self, ask: Ask) -> bytes:
        body = (self._before, b"%d" % ask.output_tokens, self._prompt, ask.prompt, self._after)
        length = b"Content-Length: %d" % sum(map(len, body))
        session = b"X-Session-ID: %d\r\n" % ask.session if ask.session >= 0 else b""
        return b"".join((self._head, session, length, HEAD_END, *body))


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: dict[str, str]  # names in lower case
    length: int  # of the head itself, with any interim (1xx) heads before it
    http11: bool

    @property
    def chunked(self) -> bool:
        codings = self.headers.get("transfer-encoding", "").lower().split(",")
        return codings[-1].strip(" \t") == "chunked"

    @property
    def content_length(self) -> int | None:
        value = self.headers.get("content-length", "")
        ruled_out = "transfer-encoding" in self.headers or not _LENGTH.fullmatch(value)
        return None if ruled_out else int(value)

    @property
    def bodiless(self) -> bool:
        return self.status in (204, 304)

    @property
    def until_close(self) -> bool:
        return not (self.chunked or self.bodiless) and self.content_length is None

    @property
    def keeps_alive(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        if self.until_close or "close" in connection:
            return False
        return self.http11 or "keep-alive" in connection


class NotHttp(ValueError):
    """What came is no HTTP reply."""


def parse_head(raw: bytes) -> Head | None:
    """None while it is not whole."""
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
    """Tells with each read whether the reply is whole. Must cost next to nothing."""

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        """`read` is the last of `reads`."""


class UntilClose:
    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        return False


class FixedLength:
    def __init__(self, total: int, so_far: int) -> None:
        self._left = total - so_far

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
        self._left -= len(read)
        return self._left <= 0


class ChunkedStream:
    """An event stream ends with the last chunk: no event holds an empty line after a line `0`.

    What else ends in an empty line may be trailers, or part of the body: there the chunks are
    counted through. Two empty lines are an event with CRLF, and never the end.
    """

    def __init__(self, head: Head) -> None:
        self._events = head.status == 200 and headers_say_events(head)
        self._body_at = head.length

    def ended(self, read: bytes, reads: list[bytes]) -> bool:
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


def headers_say_events(head: Head) -> bool:
    return head.headers.get("content-type", "").lower().startswith("text/event-stream")


def framing(head: Head, received: int) -> Framing:
    """`received` bytes came before the next call of `ended`."""
    if head.bodiless:
        return FixedLength(head.length, received)
    if head.chunked:
        return ChunkedStream(head)
    if head.content_length is not None:
        return FixedLength(head.length + head.content_length, received)
    return UntilClose()


class Payload(NamedTuple):
    """What lies in a body: where each piece begins in the raw bytes, and whether its end was seen."""

    pieces: list[bytes]
    starts: list[int]
    whole: bool


def unchunk(raw: bytes, begin: int = 0) -> Payload:
    """Of a chunked body that begins there."""
    return _even_chunks(raw, begin) or _chunks(raw, begin)


def _even_chunks(raw: bytes, begin: int) -> Payload | None:
    """In a third of the time, if the body is whole and holds CRLF only between chunks."""
    parts = raw[begin:].split(b"\r\n")
    if parts[-3:] != _LAST_PARTS:
        return None
    sizes, pieces = parts[:-3:2], parts[1:-3:2]
    lengths = list(map(len, pieces))
    if len(sizes) != len(pieces) or not all(lengths):
        return None
    if not _SIZES(b"\r\n".join([*sizes, b""])):  # joined by what none of them can hold
        return None
    if list(map(int, sizes, repeat(16))) != lengths:
        return None
    # From one piece to the next: a line end, a size, a line end.
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
