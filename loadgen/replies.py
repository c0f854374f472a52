"""What a reply said, read after the run from the bytes of each read and the time of its arrival."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

import msgspec

from loadgen.protocol import Head, NotHttp, headers_say_events, parse_head, unchunk


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


class _Delta(msgspec.Struct):
    role: str | None = None
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    tool_calls: object = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Event).decode


def read_reply(stamps_ns: Sequence[int], reads: Sequence[bytes]) -> Reply:
    """`stamps_ns[i]` is when `reads[i]` came. How the reads split the stream does not matter."""
    raw = b"".join(reads)
    try:
        head = parse_head(raw)
    except NotHttp as error:
        return Reply(Outcome.MALFORMED, error=f"not an HTTP reply: {error}")
    if head is None:
        return Reply(Outcome.CUT, error="the connection ended before the reply began")
    body, origin, whole = _body(raw, head)
    if head.status != 200:
        line = f"HTTP {head.status}: {first_line(body)}"
        return Reply(Outcome.REFUSED, head.status, error=line)
    if not headers_say_events(head) and not body.lstrip().startswith((b"data:", b"event:", b":")):
        line = f"HTTP 200, but no event stream: {first_line(body)}"
        return Reply(Outcome.MALFORMED, head.status, error=line)
    ends = list(accumulate(len(read) for read in reads))

    def when(position: int) -> int:
        """When the byte at this position of the body came."""
        return stamps_ns[bisect_right(ends, origin(position))]

    return _read_events(body, when, whole)


class _Origin:
    """From a position in the payload to one in the raw bytes."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in spans]
        self._payload = [0, *accumulate(end - start for start, end in spans)]

    def __call__(self, position: int) -> int:
        span = bisect_right(self._payload, position) - 1
        return self._starts[span] + position - self._payload[span]


def _body(raw: bytes, head: Head) -> tuple[bytes, "_Origin", bool]:
    if head.chunked:
        relative, whole = unchunk(raw[head.length :])
        spans = [(start + head.length, end + head.length) for start, end in relative]
        return b"".join([raw[start:end] for start, end in spans]), _Origin(spans), whole
    end = len(raw)
    whole = True
    if head.content_length is not None:
        whole = end >= head.length + head.content_length
        end = min(end, head.length + head.content_length)
    return raw[head.length : end], _Origin([(head.length, end)]), whole


def sse_events(body: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(event name, data, position of the last byte of its last data line) of each whole event.

    Lines end with LF, CRLF or CR; comments and unknown fields are skipped; data lines are joined.
    """
    if b"\r" in body:
        # Lengths must stay: positions are looked up. A CRLF becomes two line ends, told from an
        # empty line by the mark in front.
        body = body.replace(b"\r\n", b"\x00\n").replace(b"\r", b"\n")
    name, data, last = b"", None, 0
    at = 0
    while (end := body.find(b"\n", at)) >= 0:
        line = body[at:end].removesuffix(b"\x00")
        if not line:
            if data is not None:
                yield name, data, last
            name, data = b"", None
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data = value if data is None else data + b"\n" + value
                last = end
            elif field == b"event":
                name = value
        at = end + 1


def _read_events(body: bytes, when: Callable[[int], int], whole: bool) -> Reply:
    story = _Story()
    for name, data, last in sse_events(body):
        if data == b"[DONE]":
            story.done = True
            continue
        try:
            event = _decode(data)
        except msgspec.DecodeError as error:
            line = f"malformed event ({error}): {first_line(data)}"
            return story.broken(Outcome.MALFORMED, line)
        if event.error is not None or name == b"error":
            line = f"error in the stream: {first_line(data)}"
            return story.broken(Outcome.STREAM_ERROR, line)
        story.tell(event, when(last))
    return story.reply(whole)


class _Story:
    """What the events told so far."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.so_far: list[int] = []  # tokens told with each of them; -1 where none were
        self.done = False
        self._silent_finish_ns: int | None = None
        self._usage = _Usage()

    def tell(self, event: _Event, at_ns: int) -> None:
        if event.usage is not None and event.usage.completion_tokens is not None:
            self._usage = event.usage
        finished = any(choice.finish_reason for choice in event.choices)
        if any(_carries_output(choice) for choice in event.choices):
            told = event.usage.completion_tokens if event.usage is not None else None
            self.stamps_ns.append(at_ns)
            self.so_far.append(-1 if told is None else told)
        elif finished:
            self._silent_finish_ns = at_ns
        self.done = self.done or finished

    def reply(self, whole: bool) -> Reply:
        stamps_ns = self.stamps_ns
        if not (whole and self.done):
            return self.broken(Outcome.CUT, f"the stream was cut after {len(stamps_ns)} events")
        tokens = self._usage.completion_tokens
        if self._silent_finish_ns is not None and tokens is not None and len(stamps_ns) < tokens:
            # The last token had no text of its own (part of a character): it came with the finish.
            stamps_ns.append(self._silent_finish_ns)
            self.so_far.append(tokens)
        if not stamps_ns:
            return Reply(Outcome.MALFORMED, 200, error="the reply had no output")
        split, exact = split_tokens(self.so_far, tokens)
        asked = self._usage.prompt_tokens
        return Reply(Outcome.COMPLETED, 200, tuple(stamps_ns), split, exact, asked, tokens)

    def broken(self, outcome: Outcome, line: str) -> Reply:
        split, exact = split_tokens(self.so_far, None)
        return Reply(outcome, 200, tuple(self.stamps_ns), split, exact, error=line)


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
        return bool(choice.text) or (choice.text is not None and choice.finish_reason is None)
    if delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls:
        return True
    return delta.content is not None and delta.role is None and choice.finish_reason is None


def answer_text(reads: Sequence[bytes]) -> str:
    """What an assistant said, for the next turn; what it only thought is not part of it."""
    raw = b"".join(reads)
    head = parse_head(raw)
    if head is None:
        return ""
    said = []
    for _, data, _ in sse_events(_body(raw, head)[0]):
        if data != b"[DONE]":
            for choice in _decode(data).choices[:1]:
                text = choice.text if choice.delta is None else choice.delta.content
                said.append(text if isinstance(text, str) else "")
    return "".join(said)


def first_line(raw: bytes, limit: int = 200) -> str:
    """Of an error body, in JSON or not."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        value = raw.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    lines = str(value).strip().splitlines()
    return lines[0][:limit] if lines else "(empty)"
