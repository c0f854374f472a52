"""One process that drives its share of a load: one loop, nothing on it but connections and their stamps."""

import asyncio
import gc
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe

import numpy as np
import uvloop

from loadgen.clock import now_ns
from loadgen.errors import LoadError
from loadgen.http.connection import Exchange
from loadgen.http.connection_pool import Pool
from loadgen.http.protocol import Requests, Target
from loadgen.http.response_buffer import Hoard
from loadgen.http.response_parser import Outcome, read_raw
from loadgen.prompts.base import Source
from loadgen.prompts.build import build
from loadgen.results.records import Records, Row, concat
from loadgen.worker.dispatcher import BEAT_NS, LevelRun, Trace
from loadgen.worker.messages import (
    Broken,
    Bye,
    Close,
    Done,
    FromShard,
    Go,
    Live,
    Ping,
    Plan,
    Pong,
    Ready,
    Series,
    Setup,
    ToShard,
)

CONNECT_TIMEOUT_S = 10.0
_TELL_BEATS = 25
_LOOK_MOST, _LOOK_READS = 64, 512  # finished requests, and reads of them, looked at in one beat
_ROWS = 2000  # made into columns at a time
_PIPE_BYTES = 4 << 20
_EVENT = b"data: {"
_TOLD = re.compile(rb'"completion_tokens": ?(\d+)')


class Teller:
    """Tells how the level goes, four times a second; looks at a few finished requests in each beat
    and packs them away.
    """

    def __init__(self, pipe: Pipe, hoard: Hoard) -> None:
        self._pipe = pipe
        self._hoard = hoard
        self._beats = 0
        self._seen = 0
        self._finished: list[tuple[int, int, int, int, int]] = []

    def __call__(self, run: LevelRun) -> None:
        self._beats += 1
        left = _LOOK_READS
        for exchange in run.trace.exchanges[self._seen : self._seen + _LOOK_MOST]:
            left -= len(exchange.reads)
            self._finished.append(glance(exchange))
            exchange.pack(self._hoard)
            self._seen += 1
            if left <= 0:
                break
        if self._beats % _TELL_BEATS == 0:
            self.tell(run)

    def tell(self, run: LevelRun) -> None:
        waiting = [e.due_ns for e in (*run.active, *run.waiting)]
        finished = np.array(self._finished, np.int64).reshape(-1, 5)
        self._finished = []
        sent = len(run.trace.lateness_ns)
        live = Live(now_ns(), finished, np.array(waiting, np.int64), run.received, sent)
        self._pipe.send(live)


def glance(exchange: Exchange) -> tuple[int, int, int, int, int]:
    """Due, first output, end, tokens, answered: by a look at the bytes, not by reading them."""
    reads = exchange.reads
    good = exchange.outcome is Outcome.COMPLETED and bool(reads)
    first_ns = exchange.end_ns
    for stamp_ns, read in zip(exchange.stamps_ns, reads, strict=True):
        count = read.count(_EVENT)
        if count and not (count == 1 and b'"role"' in read):
            first_ns = stamp_ns
            break
    told = _TOLD.findall(reads[-1]) if good else ()
    tokens = int(told[-1]) if told else sum(read.count(_EVENT) for read in reads)
    return exchange.due_ns, first_ns, exchange.end_ns, tokens, good


class Shard:
    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._setup: Setup | None = None
        self._level: asyncio.Task[None] | None = None
        self._run: LevelRun | None = None
        self._go: asyncio.Future[int] | None = None
        self._over = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until Bye, or until whoever conducts is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._readable)
        os.set_blocking(self._pipe.fileno(), True)  # uvloop undid it; messages come whole
        await self._over

    def _say(self, message: FromShard) -> None:
        self._pipe.send(message)

    def _readable(self) -> None:
        try:
            self._heard(self._pipe.recv())
        except (EOFError, ConnectionError):
            self._end()

    def _heard(self, message: ToShard) -> None:
        match message:
            case Setup():
                self._set_up(message)
            case Plan():
                self._level = asyncio.get_running_loop().create_task(self._drive(message))
                self._level.add_done_callback(self._ended)
            case Go(begin_ns=begin_ns):
                if self._go is not None:
                    self._go.set_result(begin_ns)
            case Close(drain=drain):
                if self._run is not None:
                    self._run.close(drain)
            case Ping(sent_ns=sent_ns):
                self._say(Pong(sent_ns, now_ns()))
            case Bye():
                self._end()

    def _set_up(self, setup: Setup) -> None:
        self._setup = setup
        try:
            self._target = Target.parse(setup.url, setup.api_key)
            self._source: Source = build(setup.workload, setup.vocabulary)
        except LoadError as error:
            self._say(Broken(type(error).__name__, str(error)))
            return
        self._requests = Requests(self._target, setup.model, setup.workload)
        self._say(Ready())

    async def _drive(self, plan: Plan) -> None:
        setup = self._setup
        assert setup is not None
        share = (setup.shard, setup.shards)
        with Hoard() as hoard:
            teller = Teller(self._pipe, hoard)
            run = LevelRun(plan, share, self._requests, self._source, teller)
            try:
                trace = await self._run_level(plan, run, setup.shards)
            except LoadError as error:
                self._say(Broken(type(error).__name__, str(error)))
                return
            teller.tell(run)
            self._say(_done(trace, run, hoard, setup.api_key))

    async def _run_level(self, plan: Plan, run: LevelRun, shards: int) -> Trace:
        count = -(-plan.connections // shards)
        allow_files(count)
        pool = Pool(self._target, run, 0 if plan.closed else count, CONNECT_TIMEOUT_S)
        try:
            await pool.open(count)
            self._go = asyncio.get_running_loop().create_future()
            with quiet_memory():  # collects first: not when users are due already
                self._say(Ready())
                begin_ns = await self._go
                self._run = run
                return await run.run(pool, begin_ns)
        finally:
            self._go = self._run = None
            await pool.close()

    def _ended(self, level: "asyncio.Task[None]") -> None:
        fault = None if level.cancelled() else level.exception()
        if fault is not None and not self._over.done():
            self._over.set_exception(fault)  # ours: die with it

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


def _done(trace: Trace, run: LevelRun, hoard: Hoard, api_key: str | None) -> Done:
    parts = batched(trace.exchanges, _ROWS)
    records = concat([Records.of([_row(each, hoard) for each in part]) for part in parts])
    if api_key:  # an endpoint may repeat it in what it complains of
        errors = tuple(line.replace(api_key, "***") for line in records.errors)
        records = replace(records, errors=errors)
    beats = np.arange(1, len(trace.loop_lag_ns) + 1, dtype=np.int64)
    series = Series(
        lateness_ns=np.array(trace.lateness_ns, np.int64),
        lateness_at_ns=np.array(trace.lateness_at_ns, np.int64),
        loop_lag_ns=np.array(trace.loop_lag_ns, np.int64),
        loop_lag_at_ns=trace.begin_ns + (beats - 1) * BEAT_NS,
        cpu_ns=np.array(trace.cpu_ns, np.int64),
        cpu_at_ns=np.array(trace.cpu_at_ns, np.int64),
    )
    return Done(
        records,
        series,
        trace.begin_ns,
        trace.over_ns,
        trace.resent,
        trace.connected,
        trace.gave_up,
        run.used,
        run.repeated,
    )


def batched(exchanges: list[Exchange], size: int) -> Iterator[list[Exchange]]:
    """At least one, if only of none."""
    for start in range(0, max(1, len(exchanges)), size):
        yield exchanges[start : start + size]


def _row(exchange: Exchange, hoard: Hoard) -> Row:
    """What we know better than the reply, that it broke off or took too long, is kept."""
    if exchange.packed is None:
        exchange.pack(hoard)
    packed, exchange.packed = exchange.packed, None
    assert packed is not None
    reply = read_raw(packed.stamps_ns, packed.lengths, hoard.raw(packed))
    if exchange.outcome is not Outcome.COMPLETED:
        reply = replace(reply, outcome=exchange.outcome, error=exchange.error)
    return Row(0, exchange.slot, exchange.due_ns, exchange.sent_ns, exchange.end_ns, reply)


@contextmanager
def quiet_memory() -> Iterator[None]:
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
    """Leave to open that many more files, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def main(fd: int) -> None:
    """`fd` is one end of a socket pair; the conductor holds the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever conducts decides what it means
    with socket.socket(fileno=fd) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIPE_BYTES)
        pipe = Pipe(ours.detach())
    with pipe, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe))


async def _serve(pipe: Pipe) -> None:
    await Shard(pipe).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
