"""Parses a stored response: from the bytes and the arrival time of each read to tokens and stamps."""

from collections.abc import Sequence
from itertools import accumulate

import msgspec

from loadgen.http.content_coding import coding_of, inflated
from loadgen.http.events import Event, MalformedEvent, decode, decode_strictly
from loadgen.http.protocol import Head, NotHttp, Payload, is_event_stream, parse_head, unchunk
from loadgen.http.response import Outcome, Response
from loadgen.http.sse import plain_events, sse_events
from loadgen.http.stream_reader import StreamReader

_DONE = b"[DONE]"


def parse_response(
    stamps_ns: Sequence[int], lengths: Sequence[int], raw: bytes, asked: int | None = None
) -> Response:
    """`raw`: all reads joined; `lengths[i]` and `stamps_ns[i]`: size and arrival time of read i.

    How the reads split the stream does not matter. `asked`: the most tokens that the response may have.
    """
    try:
        head = parse_head(raw)
    except NotHttp as error:
        return Response(Outcome.MALFORMED, error=f"not an HTTP response: {error}")
    if head is None:
        return Response(Outcome.CUT, error="the connection was closed before the response began")
    payload = _payload(raw, head)
    if (coding := coding_of(head)) is not None:
        stamps_ns, lengths, payload = inflated(coding, stamps_ns, lengths, payload)
    body = b"".join(payload.pieces)
    if head.status != 200:
        line = f"HTTP {head.status}: {first_line(body)}"
        return Response(Outcome.REFUSED, head.status, error=line)
    if not _is_stream(head, body):
        return _no_stream(body)
    reader = StreamReader(_ByteTimes(stamps_ns, lengths, payload), asked)
    fault = _read_events(body, reader)
    return fault or reader.response(payload.whole, not head.until_close)


def _is_stream(head: Head, body: bytes) -> bool:
    return is_event_stream(head) or body.lstrip().startswith((b"data:", b"event:", b":"))


def _no_stream(body: bytes) -> Response:
    """A whole JSON document of status 200 in place of a stream: an error, or an endpoint that can't stream."""
    try:
        event, _ = decode(body)
    except MalformedEvent:
        event = None
    if event is not None and event.is_error:
        line = f"error in a response of status 200: {first_line(body)}"
        return Response(Outcome.STREAM_ERROR, 200, error=line)
    line = f"HTTP 200, but no event stream: {first_line(body)}"
    return Response(Outcome.MALFORMED, 200, error=line)


class _ByteTimes:
    """Maps positions in the payload to arrival times."""

    def __init__(self, stamps_ns: Sequence[int], lengths: Sequence[int], payload: Payload) -> None:
        self._stamps_ns = stamps_ns
        self._ends = list(accumulate(lengths))
        self._starts = payload.starts
        self._payload = list(accumulate(map(len, payload.pieces)))

    def at(self, positions: Sequence[int]) -> list[int]:
        """The arrival times of bytes at rising positions."""
        stamps_ns, ends, starts, payload = self._stamps_ns, self._ends, self._starts, self._payload
        span = read = before = 0
        found = []
        for position in positions:
            while payload[span] <= position:
                before = payload[span]
                span += 1
            raw = starts[span] + position - before
            while ends[read] <= raw:
                read += 1
            found.append(stamps_ns[read])
        return found


def _payload(raw: bytes, head: Head) -> Payload:
    if head.chunked:
        return unchunk(raw, head.length)
    end = len(raw)
    whole = True
    if head.content_length is not None:
        whole = end >= head.length + head.content_length
        end = min(end, head.length + head.content_length)
    return Payload([raw[head.length : end]], [head.length], whole)


def _read_events(body: bytes, reader: StreamReader) -> Response | None:
    """Adds all events to the reader; a Response if one of them is a failure."""
    if (fast := _fast_events(body)) is not None:
        events, datas, lasts, reader.done = fast
        for event, last, data in zip(events, lasts, datas, strict=True):
            if not reader.add(event, last, data):
                return _error(reader, data)
        return None
    for name, data, last in sse_events(body):
        if name == b"error":
            return _error(reader, data)
        if data.strip().upper() == _DONE:
            reader.done = True
            continue
        try:
            decoded, oddity = decode(data)
        except MalformedEvent as error:
            line = f"malformed event ({error}): {first_line(data)}"
            return reader.failure(Outcome.MALFORMED, line)
        if oddity:
            reader.oddities[oddity] = None
        if decoded is not None and not reader.add(decoded, last, data):
            return _error(reader, data)
    return None


def _error(reader: StreamReader, data: bytes) -> Response:
    return reader.failure(Outcome.STREAM_ERROR, f"error in the stream: {first_line(data)}")


def _fast_events(body: bytes) -> tuple[list[Event], list[bytes], list[int], bool] | None:
    """Events, their data and positions, and whether [DONE] was last; None where the slow path is needed."""
    split = plain_events(body)
    if split is None:
        return None
    datas, lasts = split
    if done := datas[-1:] == [_DONE]:
        datas.pop()
        lasts.pop()
    try:
        return list(map(decode_strictly, datas)), datas, lasts, done
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def answer_text(reads: Sequence[bytes]) -> str:
    """The assistant's text, without its reasoning, for the next turn.

    Ends before the first malformed event; `parse_response` reports the error.
    """
    raw = b"".join(reads)
    head = parse_head(raw)
    if head is None:
        return ""
    payload = _payload(raw, head)
    if (coding := coding_of(head)) is not None:
        *_, payload = inflated(coding, [0], [len(raw)], payload)
    parts = []
    for _, data, _ in sse_events(b"".join(payload.pieces)):
        try:
            event, _ = decode(data)
        except MalformedEvent:
            break
        for choice in ((event.choices if event else None) or [])[:1]:
            text = choice.text if choice.delta is None else choice.delta.content
            parts.append(text if isinstance(text, str) else "")
    # Two halves of a surrogate pair may have come in two events; one alone can't be sent.
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def first_line(raw: bytes, limit: int = 200) -> str:
    """The first line of an error message, in JSON or not, at most `limit` characters."""
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):  # not JSON, not text, or nested too deeply
        value = raw.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    lines = str(value).strip().splitlines()
    return lines[0][:limit] if lines else "(empty)"
