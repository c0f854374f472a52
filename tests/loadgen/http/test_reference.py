"""Whole replies, of every kind and spoilt, against a reader that is plainly right."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.http.connection import Connection, Exchange
from loadgen.http.response_parser import answer_text, read_reply
from loadgen.prompts.base import Ask
from tests.loadgen.http import reference
from tests.loadgen.http.grammar import Said, cuts, refusals, split, streams

# A noisy machine is no finding.
thorough = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def single(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


class Listener:
    """Whose connection it is."""

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
    """The read with which a connection takes the reply for whole."""
    listener = Listener()
    connection = Connection(listener)
    connection.connection_made(Silent())
    connection.send(Exchange(Ask(b"[]", 1), 0, 0), b"")
    for index, read in enumerate(reads):
        connection.data_received(read)
        if listener.over:
            return index
    return None


def agree(reads: list[bytes]) -> reference.Truth:
    """Both say the same of these reads."""
    truth = reference.read(b"".join(reads))
    ends = list(itertools.accumulate(map(len, reads)))
    stamps = [1000 + index for index in range(len(reads))]
    reply = read_reply(stamps, reads)
    assert reply.outcome.name == truth.outcome
    assert reply.status == truth.status
    came = [next(i for i, end in enumerate(ends) if at < end) for at in truth.outputs]
    assert reply.stamps_ns == tuple(stamps[index] for index in came)
    assert reply.exact == (truth.tokens is not None)
    assert len(reply.tokens) == len(truth.outputs)
    if truth.tokens is not None:
        assert list(reply.tokens) == truth.tokens
    else:
        total = truth.output_tokens
        assert sum(reply.tokens) == (len(truth.outputs) if total is None else total)
    counts = (truth.input_tokens, truth.output_tokens)
    assert (reply.input_tokens, reply.output_tokens) == counts
    assert (reply.error == "") == (truth.outcome == "COMPLETED")
    return truth


def ends_where_it_should(reads: list[bytes], truth: reference.Truth) -> None:
    assert ended_with(reads) == (None if truth.last is None else len(reads) - 1)


@thorough
@given(streams(), cuts)
def test_a_stream_is_read_as_it_was_meant_however_it_is_split(
    said: Said, places: list[int]
) -> None:
    reads = split(said.raw, places)
    truth = agree(reads)
    ends_where_it_should(reads, truth)
    assert truth.last in (None, len(said.raw) - 1)
    assert truth.outcome == ("STREAM_ERROR" if said.fault else "COMPLETED")
    if not said.fault:
        assert 0 <= len(truth.outputs) - said.outputs <= said.finish_apart
        told = (truth.input_tokens, truth.output_tokens)
        assert told == (said.input_tokens, said.output_tokens)


@thorough
@given(streams())
def test_a_read_for_every_byte(said: Said) -> None:
    reads = single(said.raw)
    ends_where_it_should(reads, agree(reads))


@thorough
@given(refusals(), cuts)
def test_what_is_no_stream(raw: bytes, places: list[int]) -> None:
    for reads in (split(raw, places), single(raw)):
        truth = agree(reads)
        ends_where_it_should(reads, truth)
        assert truth.last in (None, len(raw) - 1)


@thorough
@given(streams(), cuts, st.integers(0, 100_000), st.booleans())
def test_cut_at_any_byte(said: Said, places: list[int], at: int, after_event: bool) -> None:
    raw = said.raw[: at % len(said.raw)]
    if after_event:
        events = said.raw.split(b"\n\n")
        raw = b"".join(event + b"\n\n" for event in events[: at % max(1, len(events) - 1)])
    reads = split(raw, places)
    truth = agree(reads)
    assert truth.last is None
    assert ended_with(reads) is None


def test_no_place_where_a_chunk_may_end_looks_like_the_last() -> None:
    """With CRLF an `id: 10` cut before its 0 reads like the last chunk, up to a byte of its own."""
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
        truth = agree(reads)
        if truth.last == len(raw) - 1:
            ends_where_it_should(reads, truth)


def test_output_after_a_finish_takes_the_finish_back() -> None:
    """As where a server that answers several times ends one answer before the others."""
    silent = b'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    assert len(agree([head, EVENT, silent, EVENT, usage]).outputs) == 2
    assert len(agree([head, EVENT, EVENT, silent, usage]).outputs) == 3


flips = st.lists(
    st.tuples(st.sampled_from("+-="), st.integers(0, 100_000), st.integers(0, 255)),
    min_size=1,
    max_size=5,
)


def spoilt(raw: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    bad = bytearray(raw)
    for kind, place, byte in changes:
        at = place % len(bad)
        bad[at : at + (kind != "+")] = b"" if kind == "-" else bytes([byte])
    return bytes(bad)


@settings(thorough, max_examples=400)
@given(st.one_of(streams().map(lambda said: said.raw), refusals()), flips, cuts)
def test_spoilt_bytes(raw: bytes, changes: list[tuple[str, int, int]], places: list[int]) -> None:
    reads = split(spoilt(raw, changes), places)
    truth = agree(reads)
    ended_with(reads)
    if truth.outcome != "MALFORMED":
        answer_text(reads)
