"""What a worker process reports while a level runs."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from loadgen.http.connection import Exchange
from loadgen.http.response_buffer import ResponseBuffer
from loadgen.prompts.base import Request
from loadgen.worker.messages import LiveUpdate
from loadgen.worker.process import LiveReporter

EVENT = b'data: {"choices": [{"text": " a"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n'


def answered(due_ns: int, *reads: bytes) -> Exchange:
    exchange = Exchange(Request(b"[1]", 7, 1), 0, due_ns)
    for read in reads:
        exchange.end_ns = due_ns + 100 * (len(exchange.reads) + 1)
        exchange.stamps_ns.append(exchange.end_ns)
        exchange.reads.append(read)
    return exchange


@dataclass
class Ended:
    """The part of a dispatcher that is reported."""

    ended: list[Exchange]
    active: dict[Exchange, None] = field(default_factory=dict)
    waiting: deque[Exchange] = field(default_factory=deque)


class Sent(list[LiveUpdate]):
    """A pipe that keeps what is sent."""

    def send(self, update: LiveUpdate) -> None:
        self.append(update)


def test_updates_have_new_requests_and_all_output_so_far() -> None:
    dispatcher: Any = Ended([answered(1000, EVENT, EVENT + USAGE), answered(2000, EVENT, EVENT)])
    pipe: Any = Sent()
    with ResponseBuffer() as buffer:
        reporter = LiveReporter(pipe, buffer)
        reporter(dispatcher)
        reporter.report(dispatcher)
        dispatcher.ended.append(answered(3000, EVENT + USAGE))
        dispatcher.active[late := answered(4000)] = None
        dispatcher.waiting.append(answered(5000))
        reporter(dispatcher)
        reporter.report(dispatcher)
    first, second = pipe
    assert first.finished.tolist() == [[1000, 1100, 1200, 7, 1], [2000, 2100, 2200, 2, 1]]
    assert second.finished.tolist() == [[3000, 3100, 3100, 7, 1]]
    assert second.waiting_ns.tolist() == [late.due_ns, 5000]
    assert [first.received, second.received] == [9, 16], "tokens, by which throughput is judged"
