"""The parsers of events, heads and responses, however the stream is split."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.http.protocol import FixedLength, NotHttp, framing, parse_head, unchunk
from loadgen.http.response import Outcome
from loadgen.http.response_parser import first_line
from loadgen.http.sse import sse_events
from tests.loadgen.http.reads import parse_reads, split

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def plain_events(body: bytes) -> list[tuple[str, str]]:
    """The event stream format of the HTML standard, on text, line by line."""
    text = body.decode().replace("\r\n", "\n").replace("\r", "\n")
    events, name, data = [], "", None
    for line in text.split("\n")[:-1]:
        if not line:
            if data is not None:
                events.append((name, data))
            name, data = "", None
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "data":
                data = value if data is None else f"{data}\n{value}"
            elif field == "event":
                name = value
    return events


lines = st.sampled_from(
    [
        "data: x",
        "data:",
        "data",
        "data:y",
        "data:  z",
        ": c",
        "event: error",
        "id: 3",
        "",
        "",
        "0",
        "é",
    ]
)
ends = st.sampled_from(["\n", "\r\n", "\r"])


@given(st.lists(st.tuples(lines, ends)))
def test_events_follow_the_standard(parts: list[tuple[str, str]]) -> None:
    body = "".join(line + end for line, end in parts).encode()
    got = [(name.decode(), data.decode()) for name, data, _ in sse_events(body)]
    assert got == plain_events(body)


def event(text: str, finish: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": finish}]}).encode()


@given(
    texts=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 5000), max_size=40),
    end=st.sampled_from([b"\n", b"\r\n"]),
    wire=st.sampled_from(["chunked", "length", "close"]),
)
def test_splits_of_the_stream_change_neither_tokens_nor_stamps(
    texts: list[str], cuts: list[int], end: bytes, wire: str
) -> None:
    events = [event(text) for text in texts[:-1]] + [event("!" + texts[-1], "length")]
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    blocks = [e + end * 2 for e in events]
    blocks += [b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + end * 2]
    blocks += [b"data: [DONE]" + end * 2]
    raw, lasts = encoded(blocks, wire, len(end))
    reads = split(raw, cuts)
    stamps = [1000 + i for i in range(len(reads))]
    response = parse_reads(stamps, reads)
    assert response.outcome is Outcome.COMPLETED
    assert (response.input_tokens, response.output_tokens) == (3, 9)
    assert response.stamps_ns == tuple(
        arrival(last, reads, stamps) for last in lasts[: len(events)]
    )
    assert ends_at(reads) == (None if wire == "close" else len(reads) - 1)


def encoded(blocks: list[bytes], wire: str, end_length: int) -> tuple[bytes, list[int]]:
    """The raw response, and the position of the line end of each block's data."""
    if wire == "chunked":
        raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    elif wire == "length":
        raw = HEAD + b"Content-Length: %d\r\n\r\n" % sum(map(len, blocks))
    else:
        raw = HEAD + b"\r\n"
    lasts = []
    for block in blocks:
        raw += b"%x\r\n" % len(block) if wire == "chunked" else b""
        lasts.append(len(raw) + len(block) - end_length - 1)
        raw += block + (b"\r\n" if wire == "chunked" else b"")
    return raw + (b"0\r\n\r\n" if wire == "chunked" else b""), lasts


def arrival(position: int, reads: list[bytes], stamps: list[int]) -> int:
    for read, stamp in zip(reads, stamps, strict=True):
        if position < len(read):
            return stamp
        position -= len(read)
    raise AssertionError


def ends_at(reads: list[bytes]) -> int | None:
    """The read at which the framing detects the end of the response."""
    frame, so_far = None, []
    for index, read in enumerate(reads):
        so_far.append(read)
        if frame is None:
            raw = b"".join(so_far)
            head = parse_head(raw)
            if head is None:
                continue
            frame = framing(head, len(raw) - len(read))
        if frame.ended(read, so_far):
            return index
    return None


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def test_an_error_body_may_contain_what_looks_like_the_last_chunk() -> None:
    head = b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    trap = chunk(b"sorry\r\n0\r\n\r\n")[:-2]
    assert ends_at([head, trap, b"\r\n", b"0\r\n\r\n"]) == 3


def test_interim_heads_are_skipped() -> None:
    head = parse_head(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n")
    assert head is not None
    assert (head.status, head.bodiless, head.keeps_alive) == (204, True, True)
    assert isinstance(framing(head, 0), FixedLength)


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH", b"HTTP/1.1 abc X\r\n\r\n"])
def test_other_protocols_raise_not_http(raw: bytes) -> None:
    with pytest.raises(NotHttp):
        parse_head(raw)


@pytest.mark.parametrize("raw", [b"", b"HT", b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_an_incomplete_head_is_none(raw: bytes) -> None:
    assert parse_head(raw) is None


@pytest.mark.parametrize(
    ("headers", "alive"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1", True),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close", False),
        ("HTTP/1.1 200 OK", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive", True),
    ],
)
def test_whether_a_connection_stays_open(headers: str, alive: bool) -> None:
    head = parse_head(f"{headers}\r\n\r\n".encode())
    assert head is not None
    assert head.keeps_alive is alive


def test_a_broken_chunk_length_ends_the_body() -> None:
    assert unchunk(b"zz\r\nabc\r\n0\r\n\r\n") == ([], [], False)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "outcome", "line"),
    [
        (b"HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy", Outcome.REFUSED, "HTTP 503: busy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Outcome.MALFORMED, "no event stream"),
        (b"hello", Outcome.MALFORMED, "not an HTTP response: hello"),
        (b"HTTP/1.1 2", Outcome.CUT, "before the response began"),
        (CHUNKED + chunk(event("a") + b"\n\n"), Outcome.CUT, "cut off after 1 events"),
        (HEAD + b"\r\n" + event("a") + b"\n\n", Outcome.CUT, "cut off after 1 events"),
        (HEAD + b"\r\ndata: {oops\n\n", Outcome.MALFORMED, "malformed event"),
        (HEAD + b"\r\ndata: [DONE]\n\n", Outcome.MALFORMED, "no output"),
        (HEAD + b"\r\ndata: " + b"[" * 9999 + b"\n\n", Outcome.MALFORMED, "malformed event"),
        (
            HEAD + b'\r\ndata: {"error":' + b"[" * 9999 + b"]" * 9999 + b"}\n\n",
            Outcome.MALFORMED,
            "malformed event",
        ),
        (HEAD + b'\r\nevent: error\ndata: {"message": "oom"}\n\n', Outcome.STREAM_ERROR, "oom"),
    ],
)
def test_failures_are_one_line(raw: bytes, outcome: Outcome, line: str) -> None:
    response = parse_reads([5], [raw])
    assert response.outcome is outcome
    assert line in response.error
    assert "\n" not in response.error


def test_the_last_token_may_arrive_with_the_finish() -> None:
    """Part of a character has no text: its event is empty and looks like no token."""
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
    body = event("a") + b"\n\n", event("", "length") + b"\n\n", usage, b"data: [DONE]\n\n"
    response = parse_reads([1, 2, 3, 4, 5], [HEAD + b"\r\n", *body])
    assert response.stamps_ns == (2, 3)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b'{"error": {"message": "a\\nb"}}', "a"),
        (b'{"detail": "no"}', "no"),
        (b'{"detail": [{"msg": "no"}]}', "[{'msg': 'no'}]"),
        (b"<html>\nx", "<html>"),
        (b"", "(empty)"),
    ],
)
def test_first_line(raw: bytes, line: str) -> None:
    assert first_line(raw) == line
