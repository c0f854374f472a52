"""Whole and damaged responses of every kind, against a simple reference parser."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.http.connection import Connection, Exchange
from loadgen.http.response_parser import answer_text
from loadgen.prompts.base import Request
from tests.fuzz.examples import examples
from tests.loadgen.http import reference
from tests.loadgen.http.grammar import Written, cuts, refusals, streams
from tests.loadgen.http.reads import parse_reads, single, split

thorough = settings(
    deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow]
)


class Listener:
    """Notes when the exchange is over."""

    def __init__(self) -> None:
        self.over = False

    def answered(self, connection: Connection, exchange: Exchange) -> None:
        self.over = True

    def broken(self, connection: Connection, exchange: Exchange, why: str) -> None:
        self.over = True

    def idle_lost(self, connection: Connection) -> None: ...


class Silent(asyncio.Transport):
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def is_closing(self) -> bool:
        return False


def ended_with(reads: list[bytes]) -> int | None:
    """The read at which a connection takes the response as complete."""
    listener = Listener()
    connection = Connection(listener)
    connection.connection_made(Silent())
    connection.send(Exchange(Request(b"[]", 1), 0, 0), b"")
    for index, read in enumerate(reads):
        connection.data_received(read)
        if listener.over:
            return index
    return None


def assert_equal_parses(reads: list[bytes]) -> reference.Truth:
    """Parser and reference agree on these reads; returns the reference's result."""
    truth = reference.read(b"".join(reads))
    ends = list(itertools.accumulate(map(len, reads)))
    stamps = [1000 + index for index in range(len(reads))]
    response = parse_reads(stamps, reads)
    assert response.outcome.name == truth.outcome
    assert response.status == truth.status
    came = [next(i for i, end in enumerate(ends) if at < end) for at in truth.outputs]
    assert response.stamps_ns == tuple(stamps[index] for index in came)
    assert response.exact == (truth.tokens is not None)
    assert len(response.tokens) == len(truth.outputs)
    if truth.tokens is not None:
        assert list(response.tokens) == truth.tokens
    else:
        total = truth.output_tokens
        assert sum(response.tokens) == (len(truth.outputs) if total is None else total)
    counts = (truth.input_tokens, truth.output_tokens)
    assert (response.input_tokens, response.output_tokens) == counts
    assert (response.error == "") == (truth.outcome == "COMPLETED")
    return truth


def assert_end_detected(reads: list[bytes], truth: reference.Truth) -> None:
    assert ended_with(reads) == (None if truth.last is None else len(reads) - 1)


@thorough
@given(streams(), cuts)
def test_a_stream_is_parsed_as_written_however_it_is_split(
    written: Written, places: list[int]
) -> None:
    reads = split(written.raw, places)
    truth = assert_equal_parses(reads)
    assert_end_detected(reads, truth)
    assert truth.last in (None, len(written.raw) - 1)
    assert truth.outcome == ("STREAM_ERROR" if written.fault else "COMPLETED")
    if not written.fault:
        assert 0 <= len(truth.outputs) - written.outputs <= written.silent
        counts = (truth.input_tokens, truth.output_tokens)
        assert counts == (written.input_tokens, written.output_tokens)


@thorough
@given(streams())
def test_one_read_for_every_byte(written: Written) -> None:
    reads = single(written.raw)
    assert_end_detected(reads, assert_equal_parses(reads))


@thorough
@given(refusals(), cuts)
def test_error_responses(raw: bytes, places: list[int]) -> None:
    for reads in (split(raw, places), single(raw)):
        truth = assert_equal_parses(reads)
        assert_end_detected(reads, truth)
        assert truth.last in (None, len(raw) - 1)


@thorough
@given(streams(), cuts, st.integers(0, 100_000), st.booleans())
def test_cut_at_any_byte(written: Written, places: list[int], at: int, after_event: bool) -> None:
    raw = written.raw[: at % len(written.raw)]
    if after_event:
        events = written.raw.split(b"\n\n")
        raw = b"".join(event + b"\n\n" for event in events[: at % max(1, len(events) - 1)])
    reads = split(raw, places)
    truth = assert_equal_parses(reads)
    assert truth.last is None
    assert ended_with(reads) is None


def test_no_chunk_boundary_is_taken_for_the_last_chunk() -> None:
    """With CRLF an `id: 10` cut before its 0 looks like the last chunk, but for one byte."""
    event = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}'
    body = b"id: 10\r\n" + event + b"\r\nid: 0\r\n\r\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for at, size in itertools.product(range(1, len(body)), (1, 3, 5)):
        parts = filter(None, (body[:at], body[at : at + size], body[at + size :]))
        raw = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        reads = single(head + raw + b"0\r\n\r\n")
        assert ended_with(reads) == len(reads) - 1


EVENT = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\n'
WIRES = {
    "length": EVENT,
    "one chunk": b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    "a chunk without its line end": b"%x\r\n%b0\r\n\r\n" % (len(EVENT), EVENT),
    "a size with a comma": b"1,1\r\na\r\n0\r\n\r\n",
    "an empty size": b"1\r\na\r\n\r\nb\r\n0\r\n\r\n",
    "a signed chunk": b"-6\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "lines",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.x 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 \xb200 OK",
        b"HTTP/1.1 204 None",
        b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 100 Continue\r\n\r\nSSH-2.0",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d" % len(EVENT),
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: gzip , Chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: unchunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip",
    ],
)
def test_odd_heads(lines: bytes, wire: str) -> None:
    raw = lines + b"\r\nContent-Type: text/event-stream\r\n\r\n" + WIRES[wire]
    for reads in ([raw], single(raw)):
        truth = assert_equal_parses(reads)
        if truth.last == len(raw) - 1:
            assert_end_detected(reads, truth)


def test_output_after_a_finish_overrides_the_finish() -> None:
    """As where a server sends several choices and one ends before the others."""
    silent = b'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    assert len(assert_equal_parses([head, EVENT, silent, EVENT, usage]).outputs) == 2
    assert len(assert_equal_parses([head, EVENT, EVENT, silent, usage]).outputs) == 3


flips = st.lists(
    st.tuples(st.sampled_from("+-="), st.integers(0, 100_000), st.integers(0, 255)),
    min_size=1,
    max_size=5,
)


def damaged(raw: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    bad = bytearray(raw)
    for kind, place, byte in changes:
        at = place % len(bad)
        bad[at : at + (kind != "+")] = b"" if kind == "-" else bytes([byte])
    return bytes(bad)


@settings(thorough, max_examples=examples(250))
@given(st.one_of(streams().map(lambda written: written.raw), refusals()), flips, cuts)
def test_damaged_bytes(raw: bytes, changes: list[tuple[str, int, int]], places: list[int]) -> None:
    reads = split(damaged(raw, changes), places)
    truth = assert_equal_parses(reads)
    ended_with(reads)
    if truth.outcome != "MALFORMED":
        answer_text(reads)
