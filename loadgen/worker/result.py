"""A worker's result of a level: its responses parsed, its samples in columns."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from loadgen.http.connection import Exchange
from loadgen.http.request_encoder import RequestEncoder
from loadgen.http.response import Outcome
from loadgen.http.response_buffer import ResponseBuffer
from loadgen.http.response_parser import parse_response
from loadgen.results.records import Records, RequestRecord, concat
from loadgen.worker.dispatcher import BEAT_NS, Dispatcher
from loadgen.worker.messages import TimingSeries, WorkerResult

_ROWS = 2000  # turned into columns at a time


def result_of(
    dispatcher: Dispatcher, buffer: ResponseBuffer, encoder: RequestEncoder
) -> WorkerResult:
    """Parses what the buffer holds. Secrets that an endpoint repeats in its messages are masked."""
    log = dispatcher.log
    parts = batched(dispatcher.ended, _ROWS)
    records = concat(
        [Records.of([_record(each, buffer, encoder) for each in part]) for part in parts]
    )
    for secret in encoder.secrets:
        records = replace(
            records,
            errors=tuple(line.replace(secret, "***") for line in records.errors),
            doubts=tuple(line.replace(secret, "***") for line in records.doubts),
        )
    beats = np.arange(1, len(log.loop_lag_ns) + 1, dtype=np.int64)
    series = TimingSeries(
        lateness_ns=np.array(log.lateness_ns, np.int64),
        lateness_at_ns=np.array(log.lateness_at_ns, np.int64),
        loop_lag_ns=np.array(log.loop_lag_ns, np.int64),
        loop_lag_at_ns=log.begin_ns + (beats - 1) * BEAT_NS,
        cpu_ns=np.array(log.cpu_ns, np.int64),
        cpu_at_ns=np.array(log.cpu_at_ns, np.int64),
    )
    return WorkerResult(
        records,
        series,
        log.begin_ns,
        log.over_ns,
        log.resent,
        log.connected,
        dispatcher.gave_up,
        dispatcher.queue.used,
        dispatcher.queue.repeated,
    )


def batched(exchanges: list[Exchange], size: int) -> Iterator[list[Exchange]]:
    """Lists of at most `size`; one empty list if there are none."""
    for start in range(0, max(1, len(exchanges)), size):
        yield exchanges[start : start + size]


def _record(exchange: Exchange, buffer: ResponseBuffer, encoder: RequestEncoder) -> RequestRecord:
    """The parsed response; an outcome known to the client (cut, timed out) takes precedence."""
    if exchange.packed is None:
        exchange.pack(buffer)
    packed, exchange.packed = exchange.packed, None
    assert packed is not None
    response = exchange.response
    if response is None:
        asked = encoder.asked(exchange.request)
        response = parse_response(packed.stamps_ns, packed.lengths, buffer.raw(packed), asked)
    if exchange.outcome is not Outcome.COMPLETED:
        response = replace(response, outcome=exchange.outcome, error=exchange.error)
    return RequestRecord(
        0, exchange.slot, exchange.due_ns, exchange.sent_ns, exchange.end_ns, response
    )
