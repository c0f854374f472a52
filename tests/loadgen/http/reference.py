"""A simple reference parser, byte by byte and line by line: the fast parser must agree with it.

HTTP as in RFC 9112, event streams as in WHATWG's HTML, events as OpenAI has them. Shares nothing with loadgen.
"""

import string
from dataclasses import dataclass

from tests.loadgen.http.reference_content import Truth, is_error, lenient, read_stream

CR, LF = 13, 10
Payload = list[tuple[int, int]]  # each byte of the body, and its position in the raw response


@dataclass
class Head:
    status: int
    headers: dict[str, str]
    length: int


class NotHttp(Exception):
    pass


def read(raw: bytes) -> Truth:
    try:
        head = read_head(raw)
    except NotHttp:
        return Truth("MALFORMED")
    if head is None:
        return Truth("CUT")
    payload, last, whole = read_body(raw, head)
    if head.status != 200:
        return Truth("REFUSED", head.status, last=last)
    text = bytes(byte for byte, _ in payload).lstrip()
    named = head.headers.get("content-type", "").lower().startswith("text/event-stream")
    if not named and not text.startswith((b"data:", b"event:", b":")):
        whole_error = is_error(lenient(bytes(byte for byte, _ in payload)))
        return Truth("STREAM_ERROR" if whole_error else "MALFORMED", 200, last=last)
    unbounded = not length_is_known(head)
    truth = read_stream(read_events(payload), whole, unbounded)
    truth.last = last
    return truth


# --- HTTP


def read_line(raw: bytes, start: int) -> tuple[bytes, int] | None:
    """Up to a CRLF, and the start of the next line."""
    for at in range(start, len(raw) - 1):
        if raw[at] == CR and raw[at + 1] == LF:
            return raw[start:at], at + 2
    return None


def read_head(raw: bytes) -> Head | None:
    """None while it is incomplete; a complete one is checked in full."""
    at = 0
    while True:
        start, lines = at, []
        while True:
            line = read_line(raw, at)
            if line is None:
                for got, wanted in zip(raw[start:], b"HTTP/1.", strict=False):
                    if got != wanted:
                        raise NotHttp
                return None
            text, at = line
            if not text:
                break
            lines.append(text)
        status = status_of(lines[0] if lines else b"")
        if status >= 200:
            return checked(Head(status, headers_of(lines[1:]), at))


def status_of(line: bytes) -> int:
    words = line.decode("latin-1").split(" ")
    version, code = (*words, "")[:2]
    if len(version) != 8 or not version.startswith("HTTP/1.") or version[7] not in string.digits:
        raise NotHttp
    if len(code) != 3 or code[0] == "0" or any(c not in string.digits for c in code):
        raise NotHttp
    return int(code)


def headers_of(lines: list[bytes]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip(" \t").lower()] = value.strip(" \t")
    return headers


def checked(head: Head) -> Head:
    """RFC 9112, 6.3: a length that is no number is an error, unless something overrides it."""
    value = head.headers.get("content-length")
    overridden = head.status in (204, 304) or "transfer-encoding" in head.headers
    if value is not None and not overridden and number(value, string.digits, 10) is None:
        raise NotHttp
    return head


def number(text: str, digits: str, base: int) -> int | None:
    if not 0 < len(text) <= 16 or any(c not in digits for c in text):
        return None
    return int(text, base)


def read_body(raw: bytes, head: Head) -> tuple[Payload, int | None, bool]:
    """The bytes of the body, the position of the last byte, and whether the body is complete."""
    coding = head.headers.get("transfer-encoding")
    if head.status in (204, 304):
        return [], head.length - 1, True
    if coding is not None and coding.lower().split(",")[-1].strip(" \t") == "chunked":
        payload, last = read_chunks(raw, head.length)
        return payload, last, last is not None
    rest = [(raw[at], at) for at in range(head.length, len(raw))]
    if coding is not None or "content-length" not in head.headers:
        return rest, None, True
    length = int(head.headers["content-length"])
    last = head.length + length - 1 if len(rest) >= length else None
    return rest[:length], last, last is not None


def length_is_known(head: Head) -> bool:
    coding = head.headers.get("transfer-encoding")
    if coding is None:
        return "content-length" in head.headers or head.status in (204, 304)
    return coding.lower().split(",")[-1].strip(" \t") == "chunked"


def read_chunks(raw: bytes, at: int) -> tuple[Payload, int | None]:
    payload: Payload = []
    while True:
        line = read_line(raw, at)
        if line is None:
            return payload, None
        text, at = line
        if CR in text or LF in text:
            return payload, None
        size = number(text.split(b";")[0].rstrip(b" \t").decode("latin-1"), string.hexdigits, 16)
        if size is None:
            return payload, None
        if size == 0:
            return payload, end_of_trailers(raw, at)
        payload += [(raw[i], i) for i in range(at, min(at + size, len(raw)))]
        at += size
        if raw[at : at + 2] != b"\r\n":
            return payload, None
        at += 2


def end_of_trailers(raw: bytes, at: int) -> int | None:
    while (line := read_line(raw, at)) is not None:
        text, at = line
        if not text:
            return at - 1
    return None


# --- the event stream


def read_events(payload: Payload) -> list[tuple[bytes, bytes, int]]:
    """Name, data, and the position of the line end of the last data line."""
    if bytes(byte for byte, _ in payload[:3]) == b"\xef\xbb\xbf":
        payload = payload[3:]
    events: list[tuple[bytes, bytes, int]] = []
    name, data, where = b"", [], 0
    for line, index in lines_of(payload):
        if not line:
            if data:
                events.append((name, b"\n".join(data), where))
            name, data = b"", []
            continue
        key, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if key == b"data":
            data.append(value)
            where = index
        elif key == b"event":
            name = value
    return events


def lines_of(payload: Payload) -> list[tuple[bytes, int]]:
    """Each complete line, and the position of its end: the LF of a CRLF."""
    lines: list[tuple[bytes, int]] = []
    line = b""
    for at, (byte, index) in enumerate(payload):
        after = payload[at + 1][0] if at + 1 < len(payload) else None
        if byte not in (CR, LF):
            line += bytes([byte])
        elif byte == LF or after != LF:  # of a CRLF, the LF ends the line
            lines.append((line, index))
            line = b""
    return lines
