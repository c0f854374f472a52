"""Parses a stored response: from the bytes and the arrival time of each read to tokens and stamps."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Annotated

import msgspec

from loadgen.http.protocol import Head, NotHttp, Payload, is_event_stream, parse_head, unchunk
from loadgen.http.sse import plain_events, sse_events


class Outcome(IntEnum):
    """How a request ended. The numbers are those in Parquet files."""

    COMPLETED = 0
    UNREACHABLE = 1  # no connection
    REFUSED = 2  # HTTP status other than 200
    CUT = 3  # the connection was lost before the response was complete
    TIMED_OUT = 4
    MALFORMED = 5  # not a valid streaming response
    STREAM_ERROR = 6  # an error event in the stream
    ABANDONED = 7  # cancelled by the load generator at the end of the level: not a failure


@dataclass(frozen=True, slots=True)
class Response:
    """What a response contained. Token counts are those of `usage`; None where it was missing."""

    outcome: Outcome
    status: int = 0
    stamps_ns: tuple[int, ...] = ()  # arrival of each event with output
    tokens: tuple[int, ...] = ()  # of each of those events
    exact: bool = False  # whether `tokens` is known, not spread evenly over the events
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    tool_calls: object = None


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # fits the int32 column of the records


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: object = None


_decode_valid = msgspec.json.Decoder(_Event).decode
_error_of = attrgetter("error")


def _decode(data: bytes) -> _Event:
    try:
        return _decode_valid(data)
    except UnicodeDecodeError:  # replaced, as the HTML standard says
        return _decode_valid(data.decode("utf-8", "replace"))


def parse_response(stamps_ns: Sequence[int], lengths: Sequence[int], raw: bytes) -> Response:
    """`raw`: all reads joined; `lengths[i]` and `stamps_ns[i]`: size and arrival time of read i.

    How the reads split the stream does not matter.
    """
    try:
        head = parse_head(raw)
    except NotHttp as error:
        return Response(Outcome.MALFORMED, error=f"not an HTTP response: {error}")
    if head is None:
        return Response(Outcome.CUT, error="the connection was closed before the response began")
    payload = _payload(raw, head)
    body = b"".join(payload.pieces)
    if head.status != 200:
        line = f"HTTP {head.status}: {first_line(body)}"
        return Response(Outcome.REFUSED, head.status, error=line)
    if not is_event_stream(head) and not body.lstrip().startswith((b"data:", b"event:", b":")):
        line = f"HTTP 200, but no event stream: {first_line(body)}"
        return Response(Outcome.MALFORMED, head.status, error=line)
    return _read_events(body, _ByteTimes(stamps_ns, lengths, payload), payload.whole)


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


def _read_events(body: bytes, times: _ByteTimes, whole: bool) -> Response:
    reader = _StreamReader(times)
    if (fast := _fast_events(body)) is not None:
        events, lasts, reader.done = fast
        for event, last in zip(events, lasts, strict=True):
            reader.add(event, last)
        return reader.response(whole)
    for name, data, last in sse_events(body):
        if name == b"error":
            return reader.failure(Outcome.STREAM_ERROR, f"error in the stream: {first_line(data)}")
        if data == b"[DONE]":
            reader.done = True
            continue
        try:
            event = _decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            line = f"malformed event ({error}): {first_line(data)}"
            return reader.failure(Outcome.MALFORMED, line)
        if event.error is not None:
            return reader.failure(Outcome.STREAM_ERROR, f"error in the stream: {first_line(data)}")
        reader.add(event, last)
    return reader.response(whole)


def _fast_events(body: bytes) -> tuple[list[_Event], list[int], bool] | None:
    """Events, their positions, and whether [DONE] was last; None where the slow path is needed for errors."""
    split = plain_events(body)
    if split is None:
        return None
    datas, lasts = split
    if done := datas[-1:] == [b"[DONE]"]:
        datas.pop()
        lasts.pop()
    try:
        events = list(map(_decode_valid, datas))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    no_errors = list(map(_error_of, events)).count(None) == len(events)
    return (events, lasts, done) if no_errors else None


class _StreamReader:
    """Collects the events of one response."""

    def __init__(self, times: _ByteTimes) -> None:
        self._times = times
        self._positions: list[int] = []  # in the payload, of the events with output
        self._so_far: list[int] = []  # running token count of each; -1 where not reported
        self.done = False
        self._silent_finish = -1
        self._usage = _Usage()

    def add(self, event: _Event, position: int) -> None:
        choices, usage = event.choices or (), event.usage
        if usage is None and len(choices) == 1 and not choices[0].finish_reason:
            if _carries_output(choices[0]):  # nearly all events
                self._positions.append(position)
                self._so_far.append(-1)
            return
        count = None if usage is None else usage.completion_tokens
        if usage is not None and count is not None:
            self._usage = usage
        finished = any(choice.finish_reason for choice in choices)
        if any(_carries_output(choice) for choice in choices):
            self._positions.append(position)
            self._so_far.append(-1 if count is None else count)
        elif finished:
            self._silent_finish = position
        self.done = self.done or finished

    def response(self, whole: bool) -> Response:
        events, so_far = len(self._positions), self._so_far
        if not (whole and self.done):
            return self.failure(Outcome.CUT, f"the stream was cut off after {events} events")
        tokens = self._usage.completion_tokens
        counted = so_far[-1] if so_far and so_far[-1] >= 0 else events
        last = self._positions[-1] if events else -1
        if self._silent_finish > last and tokens is not None and counted < tokens:
            # The last token had no text (part of a character): it arrived with the finish event.
            self._positions.append(self._silent_finish)
            so_far.append(tokens)
        if not self._positions:
            return Response(Outcome.MALFORMED, 200, error="the response had no output")
        split, exact = split_tokens(so_far, tokens)
        prompt = self._usage.prompt_tokens
        return Response(Outcome.COMPLETED, 200, self._stamps_ns(), split, exact, prompt, tokens)

    def failure(self, outcome: Outcome, line: str) -> Response:
        split, exact = split_tokens(self._so_far, None)
        return Response(outcome, 200, self._stamps_ns(), split, exact, error=line)

    def _stamps_ns(self) -> tuple[int, ...]:
        return tuple(self._times.at(self._positions))


def split_tokens(so_far: Sequence[int], total: int | None) -> tuple[tuple[int, ...], bool]:
    """The tokens of each event, and whether they are known, not spread evenly.

    `so_far`: the running total that each event reported, -1 where it reported none. `total`: of the
    response.
    """
    events = len(so_far)
    if total == events:
        return (1,) * events, True
    if events and min(so_far) >= 0 and all(a <= b for a, b in pairwise(so_far)):
        return tuple(b - a for a, b in pairwise((0, *so_far))), True
    if total is None:
        return (1,) * events, False
    return tuple((i + 1) * total // events - i * total // events for i in range(events)), False


def _carries_output(choice: _Choice) -> bool:
    """A role or a finish alone is no output. An empty text in mid-stream is: a token without text."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text) or (choice.text is not None and not choice.finish_reason)
    if delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls:
        return True
    return delta.content is not None and delta.role is None and not choice.finish_reason


def answer_text(reads: Sequence[bytes]) -> str:
    """The assistant's text, without its reasoning, for the next turn.

    Ends before the first malformed event; `parse_response` reports the error.
    """
    raw = b"".join(reads)
    head = parse_head(raw)
    if head is None:
        return ""
    parts = []
    for _, data, _ in sse_events(b"".join(_payload(raw, head).pieces)):
        if data == b"[DONE]":
            continue
        try:
            choices = _decode(data).choices or []
        except (msgspec.DecodeError, RecursionError):
            break
        for choice in choices[:1]:
            text = choice.text if choice.delta is None else choice.delta.content
            parts.append(text if isinstance(text, str) else "")
    return "".join(parts)


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
