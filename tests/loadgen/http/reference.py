"""A simple reference parser, byte by byte and line by line: the fast parser must agree with it.

HTTP as in RFC 9112, event streams as in WHATWG's HTML, events as OpenAI has them. Shares nothing with loadgen.
"""

import json
import string
from dataclasses import dataclass, field
from typing import Any

CR, LF = 13, 10
Payload = list[tuple[int, int]]  # each byte of the body, and its position in the raw response


@dataclass
class Truth:
    outcome: str
    status: int = 0
    outputs: list[int] = field(default_factory=list)  # end of the data line of each event
    tokens: list[int] | None = None  # of those events, where known
    input_tokens: int | None = None
    output_tokens: int | None = None
    last: int | None = None  # position of the last byte, if the framing defines it


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
        return Truth("MALFORMED", 200, last=last)
    truth = read_stream(read_events(payload), whole)
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


# --- the content of the events


def read_stream(events: list[tuple[bytes, bytes, int]], whole: bool) -> Truth:
    outputs: list[int] = []
    totals: list[int | None] = []  # the running token count of each
    finish: int | None = None  # end of a finish event without output
    usage: dict[str, Any] = {}
    done = False
    for name, data, where in events:
        if data == b"[DONE]" and name != b"error":
            done = True
            continue
        event = parsed(data)
        fault = fault_of(name, event)
        if fault or event is None:
            return Truth(fault, 200, outputs, known(totals, None))
        choices, here = event.get("choices") or [], event.get("usage") or {}
        if here.get("completion_tokens") is not None:
            usage = here
        finished = any(choice.get("finish_reason") for choice in choices)
        if any(is_output(choice) for choice in choices):
            outputs.append(where)
            totals.append(here.get("completion_tokens"))
            finish = None  # more output: not the end
        elif finished:
            finish = where
        done = done or finished
    if not (whole and done):
        return Truth("CUT", 200, outputs, known(totals, None))
    total = usage.get("completion_tokens")
    so_far = totals[-1] if totals and totals[-1] is not None else len(outputs)
    if finish is not None and total is not None and so_far < total:
        outputs.append(finish)
        totals.append(total)
    if not outputs:
        return Truth("MALFORMED", 200)
    tokens = known(totals, total)
    return Truth("COMPLETED", 200, outputs, tokens, usage.get("prompt_tokens"), total)


def fault_of(name: bytes, event: dict[str, Any] | None) -> str:
    if name == b"error":
        return "STREAM_ERROR"
    if event is None:
        return "MALFORMED"
    return "STREAM_ERROR" if event.get("error") is not None else ""


def is_output(choice: dict[str, Any]) -> bool:
    finished, delta = bool(choice.get("finish_reason")), choice.get("delta")
    if delta is None:
        text = choice.get("text")
        return text is not None and (text != "" or not finished)
    if any(delta.get(k) for k in ("content", "reasoning_content", "reasoning", "tool_calls")):
        return True
    first = delta.get("role") is not None
    return delta.get("content") is not None and not first and not finished


def known(totals: list[int | None], total: int | None) -> list[int] | None:
    """Tokens of each event: one each if there are as many; else as reported, if all did."""
    if total == len(totals):
        return [1] * len(totals)
    tokens, before = [], 0
    for so_far in totals:
        if so_far is None or so_far < before:
            return None
        tokens.append(so_far - before)
        before = so_far
    return tokens or None


def parsed(data: bytes) -> dict[str, Any] | None:
    """A valid event; invalid UTF-8 is replaced, as the standard says."""
    try:
        event = json.loads(data.decode("utf-8", "replace"), parse_constant=refuse)
        json.dumps(event, ensure_ascii=False).encode()  # fails on half a surrogate pair
    except ValueError:
        return None
    return event if is_event(event) else None


def refuse(constant: str) -> None:
    raise ValueError(constant)


def is_event(event: Any) -> bool:
    if not isinstance(event, dict) or not isinstance(event.get("choices"), list | None):
        return False
    usage = event.get("usage")
    if not isinstance(usage, dict | None):
        return False
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if usage else []
    if not all(count is None or is_count(count) for count in counts):
        return False
    return all(is_choice(choice) for choice in event.get("choices") or [])


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def is_choice(choice: Any) -> bool:
    if not isinstance(choice, dict) or not isinstance(choice.get("delta"), dict | None):
        return False
    role = (choice.get("delta") or {}).get("role")
    texts = (role, choice.get("text"), choice.get("finish_reason"))
    return all(isinstance(text, str | None) for text in texts)
