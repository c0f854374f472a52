"""What a reply said, read after the run from the bytes of each read and the time of its arrival."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Annotated

import msgspec

from loadgen.http.protocol import Head, NotHttp, Payload, headers_say_events, parse_head, unchunk
from loadgen.http.sse import plain_events, sse_events


class Outcome(IntEnum):
    COMPLETED = 0
    UNREACHABLE = 1  # no connection
    REFUSED = 2  # an HTTP status other than 200
    CUT = 3  # the connection ended before the reply did
    TIMED_OUT = 4
    MALFORMED = 5  # not what a streaming endpoint answers
    STREAM_ERROR = 6  # an error told inside the stream
    ABANDONED = 7  # given up by us when the load was stopped: no failure of the endpoint


@dataclass(frozen=True, slots=True)
class Reply:
    outcome: Outcome
    status: int = 0
    stamps_ns: tuple[int, ...] = ()  # of each event that carried output
    tokens: tuple[int, ...] = ()  # in each of those events
    exact: bool = False  # whether the events themselves told, or their number leaves no doubt
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


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # as wide as a record's column


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
    except UnicodeDecodeError:  # the standard has such bytes replaced
        return _decode_valid(data.decode("utf-8", "replace"))


def read_reply(stamps_ns: Sequence[int], reads: Sequence[bytes]) -> Reply:
    """`stamps_ns[i]` is when `reads[i]` came. How the reads split the stream does not matter."""
    return read_raw(stamps_ns, list(map(len, reads)), b"".join(reads))


def read_raw(stamps_ns: Sequence[int], lengths: Sequence[int], raw: bytes) -> Reply:
    """The same of reads that were joined; their lengths."""
    try:
        head = parse_head(raw)
    except NotHttp as error:
        return Reply(Outcome.MALFORMED, error=f"not an HTTP reply: {error}")
    if head is None:
        return Reply(Outcome.CUT, error="the connection ended before the reply began")
    payload = _payload(raw, head)
    body = b"".join(payload.pieces)
    if head.status != 200:
        line = f"HTTP {head.status}: {first_line(body)}"
        return Reply(Outcome.REFUSED, head.status, error=line)
    if not headers_say_events(head) and not body.lstrip().startswith((b"data:", b"event:", b":")):
        line = f"HTTP 200, but no event stream: {first_line(body)}"
        return Reply(Outcome.MALFORMED, head.status, error=line)
    return _read_events(body, Arrivals(stamps_ns, lengths, payload), payload.whole)


class Arrivals:
    """When each byte of the payload came."""

    def __init__(self, stamps_ns: Sequence[int], lengths: Sequence[int], payload: Payload) -> None:
        self._stamps_ns = stamps_ns
        self._ends = list(accumulate(lengths))
        self._starts = payload.starts
        self._payload = list(accumulate(map(len, payload.pieces)))

    def at(self, positions: Sequence[int]) -> list[int]:
        """Of rising positions in the payload."""
        stamps_ns, ends, starts, payload = self._stamps_ns, self._ends, self._starts, self._payload
        span = read = before = 0
        made = []
        for position in positions:
            while payload[span] <= position:
                before = payload[span]
                span += 1
            raw = starts[span] + position - before
            while ends[read] <= raw:
                read += 1
            made.append(stamps_ns[read])
        return made


def _payload(raw: bytes, head: Head) -> Payload:
    if head.chunked:
        return unchunk(raw, head.length)
    end = len(raw)
    whole = True
    if head.content_length is not None:
        whole = end >= head.length + head.content_length
        end = min(end, head.length + head.content_length)
    return Payload([raw[head.length : end]], [head.length], whole)


def _read_events(body: bytes, arrivals: Arrivals, whole: bool) -> Reply:
    story = _Story(arrivals)
    if (plain := _plain(body)) is not None:
        events, lasts, story.done = plain
        for event, last in zip(events, lasts, strict=True):
            story.tell(event, last)
        return story.reply(whole)
    for name, data, last in sse_events(body):
        if name == b"error":
            return story.broken(Outcome.STREAM_ERROR, f"error in the stream: {first_line(data)}")
        if data == b"[DONE]":
            story.done = True
            continue
        try:
            event = _decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            line = f"malformed event ({error}): {first_line(data)}"
            return story.broken(Outcome.MALFORMED, line)
        if event.error is not None:
            return story.broken(Outcome.STREAM_ERROR, f"error in the stream: {first_line(data)}")
        story.tell(event, last)
    return story.reply(whole)


def _plain(body: bytes) -> tuple[list[_Event], list[int], bool] | None:
    """Events, where they end, and if they do by [DONE]; None where the long way has to say what is wrong."""
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
    faultless = list(map(_error_of, events)).count(None) == len(events)
    return (events, lasts, done) if faultless else None


class _Story:
    """What the events told so far."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._positions: list[int] = []  # of the events with output
        self._so_far: list[int] = []  # tokens told with each of them; -1 where none were
        self.done = False
        self._silent_finish = -1
        self._usage = _Usage()

    def tell(self, event: _Event, position: int) -> None:
        choices, usage = event.choices or (), event.usage
        if usage is None and len(choices) == 1 and not choices[0].finish_reason:
            if _carries_output(choices[0]):  # nearly all are like this
                self._positions.append(position)
                self._so_far.append(-1)
            return
        told = None if usage is None else usage.completion_tokens
        if usage is not None and told is not None:
            self._usage = usage
        finished = any(choice.finish_reason for choice in choices)
        if any(_carries_output(choice) for choice in choices):
            self._positions.append(position)
            self._so_far.append(-1 if told is None else told)
        elif finished:
            self._silent_finish = position
        self.done = self.done or finished

    def reply(self, whole: bool) -> Reply:
        events, so_far = len(self._positions), self._so_far
        if not (whole and self.done):
            return self.broken(Outcome.CUT, f"the stream was cut after {events} events")
        tokens = self._usage.completion_tokens
        told = so_far[-1] if so_far and so_far[-1] >= 0 else events
        last = self._positions[-1] if events else -1
        if self._silent_finish > last and tokens is not None and told < tokens:
            # The last token had no text of its own (part of a character): it came with the finish.
            self._positions.append(self._silent_finish)
            so_far.append(tokens)
        if not self._positions:
            return Reply(Outcome.MALFORMED, 200, error="the reply had no output")
        split, exact = split_tokens(so_far, tokens)
        asked = self._usage.prompt_tokens
        return Reply(Outcome.COMPLETED, 200, self._stamps_ns(), split, exact, asked, tokens)

    def broken(self, outcome: Outcome, line: str) -> Reply:
        split, exact = split_tokens(self._so_far, None)
        return Reply(outcome, 200, self._stamps_ns(), split, exact, error=line)

    def _stamps_ns(self) -> tuple[int, ...]:
        return tuple(self._arrivals.at(self._positions))


def split_tokens(so_far: Sequence[int], total: int | None) -> tuple[tuple[int, ...], bool]:
    """How many tokens each event carried, and whether that is known rather than spread evenly.

    `so_far`: the running total that each event told, -1 where it told none. `total`: of the reply.
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
    """A role or a finish is not output. An empty text in mid-stream is: a token without text."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text) or (choice.text is not None and not choice.finish_reason)
    if delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls:
        return True
    return delta.content is not None and delta.role is None and not choice.finish_reason


def answer_text(reads: Sequence[bytes]) -> str:
    """What an assistant said, for the next turn; what it only thought is not part of it.

    Up to the first event that can't be read: `read_reply` says what is wrong with it.
    """
    raw = b"".join(reads)
    head = parse_head(raw)
    if head is None:
        return ""
    said = []
    for _, data, _ in sse_events(b"".join(_payload(raw, head).pieces)):
        if data == b"[DONE]":
            continue
        try:
            choices = _decode(data).choices or []
        except (msgspec.DecodeError, RecursionError):
            break
        for choice in choices[:1]:
            text = choice.text if choice.delta is None else choice.delta.content
            said.append(text if isinstance(text, str) else "")
    return "".join(said)


def first_line(raw: bytes, limit: int = 200) -> str:
    """Of an error body, in JSON or not."""
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):  # no JSON, no text, or nothing that anybody meant
        value = raw.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    lines = str(value).strip().splitlines()
    return lines[0][:limit] if lines else "(empty)"
