"""One process that sends its share of a load: one event loop for nothing but connections and their stamps."""

import asyncio
import gc
import os
import re
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from loadgen.clock import now_ns
from loadgen.errors import LoadError, ShardFailed
from loadgen.http.connection import Exchange
from loadgen.http.connection_pool import ConnectionPool
from loadgen.http.protocol import Target
from loadgen.http.request_encoder import RequestEncoder
from loadgen.http.response import Outcome
from loadgen.http.response_buffer import ResponseBuffer
from loadgen.prompts.base import Source
from loadgen.prompts.build import build
from loadgen.worker.dispatcher import Dispatcher
from loadgen.worker.messages import (
    Close,
    FromWorker,
    LiveUpdate,
    Ping,
    Plan,
    Pong,
    Ready,
    Setup,
    Shutdown,
    Start,
    ToWorker,
    WorkerFailure,
)
from loadgen.worker.result import result_of

CONNECT_TIMEOUT_S = 10.0
_REPORT_BEATS = 25
_REQUESTS_MAX, _READS_MAX = 64, 512  # estimated and packed in one beat
_PIPE_BYTES = 4 << 20
_EVENT = b"data: {"
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
_SILENT = re.compile(rb'"role"|"(?:content|text)": ?""')  # an early event without output


# Ends of requests that the load generator itself decided.
OWN_ENDS = (Outcome.TIMED_OUT, Outcome.ABANDONED)


class LiveReporter:
    """Sends an update four times a second. In each beat it estimates a few ended requests and packs them."""

    def __init__(self, pipe: Pipe, buffer: ResponseBuffer) -> None:
        self._pipe = pipe
        self._buffer = buffer
        self._beats = 0
        self._seen = 0
        self._received = 0
        self._ended, self._reported_ns = 0, now_ns()
        self._finished: list[tuple[int, int, int, int, int]] = []

    def __call__(self, dispatcher: Dispatcher) -> None:
        """Called at each beat."""
        self._beats += 1
        left = _READS_MAX
        for exchange in dispatcher.ended[self._seen : self._seen + _REQUESTS_MAX]:
            left -= len(exchange.reads)
            self._finished.append(estimated_row(exchange))
            exchange.pack(self._buffer)
            self._seen += 1
            if left <= 0:
                break
        if self._beats % _REPORT_BEATS == 0:
            self.report(dispatcher)

    def report(self, dispatcher: Dispatcher) -> None:
        """Sends what was estimated since the last update."""
        waiting = [e.due_ns for e in (*dispatcher.active, *dispatcher.waiting)]
        finished = np.array(self._finished, np.int64).reshape(-1, 5)
        self._finished = []
        self._received += int(finished[:, 3].sum())
        heard, at_ns = self._heard(dispatcher), now_ns()
        self._reported_ns = at_ns
        self._pipe.send(
            LiveUpdate(at_ns, finished, np.array(waiting, np.int64), self._received, heard)
        )

    def _heard(self, dispatcher: Dispatcher) -> bool:
        """Whether the endpoint sent anything since the last update. Under load the first request tells."""
        ended, self._ended = dispatcher.ended[self._ended :], len(dispatcher.ended)
        since_ns = self._reported_ns
        return any(each.outcome not in OWN_ENDS for each in ended) or any(
            each.stamps_ns and each.stamps_ns[-1] > since_ns for each in dispatcher.active
        )


def estimated_row(exchange: Exchange) -> tuple[int, int, int, int, int]:
    """Due, first output, end, tokens, completed: from a scan of the bytes, without parsing them."""
    reads, response = exchange.reads, exchange.response
    completed = exchange.outcome is Outcome.COMPLETED and bool(reads)
    if response is not None and response.stamps_ns:
        tokens = sum(response.tokens)
        return exchange.due_ns, response.stamps_ns[0], exchange.end_ns, tokens, completed
    first_ns = exchange.end_ns
    for stamp_ns, read in zip(exchange.stamps_ns, reads, strict=True):
        count = read.count(_EVENT)
        if count and not (count == 1 and _SILENT.search(read)):
            first_ns = stamp_ns
            break
    usage = _USAGE.findall(reads[-1]) if completed else ()
    tokens = int(usage[-1]) if usage else sum(read.count(_EVENT) for read in reads)
    return exchange.due_ns, first_ns, exchange.end_ns, tokens, completed


class WorkerProcess:
    """Handles the messages of the level controller."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._setup: Setup | None = None
        self._level: asyncio.Task[None] | None = None
        self._dispatcher: Dispatcher | None = None
        self._start: asyncio.Future[int] | None = None
        self._over = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Returns after Shutdown, after an exception, or when the level controller's process is gone."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        loop.add_reader(self._pipe.fileno(), self._readable)
        os.set_blocking(self._pipe.fileno(), True)  # uvloop undid it; messages come whole
        await self._over

    def _send(self, message: FromWorker) -> None:
        self._pipe.send(message)

    def _readable(self) -> None:
        try:
            self._handle(self._pipe.recv())
        except (EOFError, ConnectionError):
            self._end()

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Setup():
                self._set_up(message)
            case Plan():
                self._level = asyncio.get_running_loop().create_task(self._drive(message))
                self._level.add_done_callback(self._level_ended)
            case Start(begin_ns=begin_ns):
                if self._start is not None:
                    self._start.set_result(begin_ns)
            case Close(drain=drain):
                if self._dispatcher is not None:
                    self._dispatcher.close(drain, now_ns())
            case Ping(sent_ns=sent_ns):
                self._send(Pong(sent_ns, now_ns()))
            case Shutdown():
                self._end()

    def _set_up(self, setup: Setup) -> None:
        self._setup = setup
        try:
            self._target = Target.parse(setup.url, setup.api_key, setup.workload.request)
            self._source: Source = build(setup.workload, setup.vocabulary)
            self._encoder = RequestEncoder(self._target, setup.model, setup.workload, setup.headers)
        except LoadError as error:
            self._send(WorkerFailure(type(error).__name__, str(error)))
            return
        self._send(Ready())

    async def _drive(self, plan: Plan) -> None:
        setup = self._setup
        assert setup is not None
        share = (setup.worker, setup.workers)
        with ResponseBuffer() as buffer:
            reporter = LiveReporter(self._pipe, buffer)
            dispatcher = Dispatcher(plan, share, self._encoder, self._source, reporter)
            try:
                await self._run_level(plan, dispatcher, setup.workers)
            except LoadError as error:
                self._send(WorkerFailure(type(error).__name__, str(error)))
                return
            reporter.report(dispatcher)
            self._send(result_of(dispatcher, buffer, self._encoder))

    async def _run_level(self, plan: Plan, dispatcher: Dispatcher, workers: int) -> None:
        count = -(-plan.connections // workers)
        allow_files(count)
        spare = 0 if plan.closed else count
        pool = ConnectionPool(self._target, dispatcher, spare, CONNECT_TIMEOUT_S)
        dispatcher.attach(pool)
        try:
            await pool.open(count)
            self._start = asyncio.get_running_loop().create_future()
            with gc_off():  # collects first: not when users are due already
                self._send(Ready())
                begin_ns = await self._start
                self._dispatcher = dispatcher
                await dispatcher.run(pool, begin_ns)
        finally:
            self._start = self._dispatcher = None
            await pool.close()

    def _level_ended(self, level: "asyncio.Task[None]") -> None:
        fault = None if level.cancelled() else level.exception()
        if fault is not None:
            self._fail(fault)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Of a callback: the event loop would only log it, and go on without what the callback had to do."""
        fault = context.get("exception")
        if isinstance(fault, Exception):
            self._fail(fault)
        else:
            loop.default_exception_handler(context)

    def _fail(self, fault: BaseException) -> None:
        """Reports an exception, and ends this process: the level can't be trusted any more."""
        if self._over.done():
            return
        with suppress(OSError):
            self._send(WorkerFailure(ShardFailed.__name__, fault_line(fault)))
        self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


def fault_line(fault: BaseException) -> str:
    """An exception in one line, with the place in this program where it was raised."""
    first = (str(fault).strip().splitlines() or [""])[0]
    what = f"{type(fault).__name__}: {first}" if first else type(fault).__name__
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"an exception in a process of the load generator: {what}{where}"


@contextmanager
def gc_off() -> Iterator[None]:
    """No garbage collection while stamps are taken: it would stop the loop for milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def allow_files(connections: int) -> None:
    """Raises the soft limit on open files for that many connections, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def main(fd: int) -> None:
    """`fd`: one end of a socket pair; the level controller has the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the level controller decides what it means
    with socket.socket(fileno=fd) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIPE_BYTES)
        pipe = Pipe(ours.detach())
    with pipe, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe))


async def _serve(pipe: Pipe) -> None:
    await WorkerProcess(pipe).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
