"""Drives a workload at an endpoint: one process, one loop, one level after the other."""

import asyncio
import gc
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import uvloop

from loadgen.arrivals import poisson_offsets_ns, staggered_offsets_ns
from loadgen.clock import ClockAnchor
from loadgen.connection import Exchange
from loadgen.errors import EndpointErrors, EndpointUnreachable, PromptRefused
from loadgen.level import LevelRun, Phase, Plan, Trace
from loadgen.pool import Pool
from loadgen.protocol import Requests, Target
from loadgen.records import Records, Row
from loadgen.replies import Outcome, Reply, read_reply
from loadgen.report import Client, Level, LoadReport, Progress, Window
from loadgen.workload import Closed, Workload

CONNECT_TIMEOUT_S = 10.0
_GIVE_UP_AFTER = 10  # failures in a row; twice the users where that is more
_SPARE_S = 0.05  # an open loop keeps the connections ready that fall due within this time
_SPARE_MAX = 64

OnProgress = Callable[[Progress], None]


def run(
    url: str,
    model: str,
    workload: Workload,
    *,
    vocabulary: int = 32000,
    api_key: str | None = None,
    on_progress: OnProgress | None = None,
    stop: Callable[[], bool] | None = None,
) -> LoadReport:
    """Blocks until the last level is done, or `stop()` says so. Raises a LoadError.

    `on_progress` and `stop` are called on the loop, ten times a second: they must return at once.
    """
    target = Target.parse(url, api_key)
    requests = Requests(target, model, workload, vocabulary)
    clock = ClockAnchor.take()
    levels: list[Level] = []
    number = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for index in range(workload.levels):
            plan = _plan(workload, index)
            tick = _progress(workload, index, on_progress)
            one = LevelRun(plan, requests, number, tick, stop or _never)
            _allow_files(_connections(plan))
            with _quiet_memory():
                trace = runner.run(_run_level(target, plan, one))
            number += len(trace.exchanges)
            records = Records.of([_row(index, exchange) for exchange in trace.exchanges])
            _raise_if_hopeless(records, trace, workload)
            if trace.start_ns:
                levels.append(_level(workload, index, trace, records))
            if trace.stopped:
                return LoadReport(tuple(levels), clock, stopped=True)
    return LoadReport(tuple(levels), clock)


def _never() -> bool:
    return False


def load_name(workload: Workload, index: int) -> str:
    if isinstance(workload.arrival, Closed):
        return f"closed {workload.arrival.concurrency[index]}"
    return f"poisson {workload.arrival.rate_per_s[index]:g}/s"


def _plan(workload: Workload, index: int) -> Plan:
    arrival = workload.arrival
    if isinstance(arrival, Closed):
        users = arrival.concurrency[index]
        starts_ns = staggered_offsets_ns(users, workload.warmup_s / 2)
        limit = None
    else:
        users = 0
        horizon_s = workload.warmup_s + workload.level_max_s + 1
        seed = (workload.seed, index)
        starts_ns = poisson_offsets_ns(arrival.rate_per_s[index], horizon_s, seed)
        limit = arrival.max_concurrency
    return Plan(
        closed=isinstance(arrival, Closed),
        starts_ns=starts_ns.tolist(),
        max_in_flight=limit,
        warmup_s=workload.warmup_s,
        level_s=workload.level_s,
        level_max_s=workload.level_max_s,
        min_requests=workload.min_requests,
        request_timeout_s=workload.request_timeout_s,
        give_up_after=max(_GIVE_UP_AFTER, 2 * users),
    )


def _connections(plan: Plan) -> int:
    """To open in advance: one a user, or as many as fall due while one is being opened."""
    if plan.closed:
        return len(plan.starts_ns)
    horizon_s = plan.warmup_s + plan.level_max_s + 1
    due = math.ceil(len(plan.starts_ns) / horizon_s * _SPARE_S)
    return max(2, min(due, _SPARE_MAX, plan.max_in_flight or _SPARE_MAX))


async def _run_level(target: Target, plan: Plan, one: LevelRun) -> Trace:
    count = _connections(plan)
    pool = Pool(target, one, 0 if plan.closed else count, CONNECT_TIMEOUT_S)
    try:
        await pool.open(count)
        return await one.run(pool)
    finally:
        await pool.close()


def _progress(
    workload: Workload, index: int, on_progress: OnProgress | None
) -> Callable[[Phase, int, float], None]:
    def tick(phase: Phase, completed: int, elapsed_s: float) -> None:
        if on_progress is not None:
            on_progress(
                Progress(
                    level=index,
                    levels=workload.levels,
                    load=load_name(workload, index),
                    phase="warmup" if phase == "warmup" else "measure",
                    completed=completed,
                    elapsed_s=elapsed_s,
                    expected_s=workload.warmup_s + workload.level_s,
                )
            )

    return tick


def _row(level: int, exchange: Exchange) -> Row:
    """What we know better than the reply, that it broke off or took too long, is kept."""
    reply = read_reply(exchange.stamps_ns, exchange.reads)
    if exchange.outcome is not Outcome.COMPLETED:
        reply = Reply(exchange.outcome, reply.status, reply.stamps_ns, error=exchange.error)
    exchange.reads.clear()
    return Row(level, exchange.slot, exchange.due_ns, exchange.sent_ns, exchange.end_ns, reply)


def _level(workload: Workload, index: int, trace: Trace, records: Records) -> Level:
    arrival = workload.arrival
    window = Window(trace.start_ns, trace.end_ns)
    return Level(
        index=index,
        load=load_name(workload, index),
        concurrency=arrival.concurrency[index] if isinstance(arrival, Closed) else None,
        rate_per_s=None if isinstance(arrival, Closed) else arrival.rate_per_s[index],
        window=window,
        warmup_s=(trace.start_ns - trace.begin_ns) / 1e9,
        drain_s=(trace.over_ns - trace.end_ns) / 1e9,
        records=records,
        client=Client(
            lateness_ns=np.array(trace.lateness_ns, np.int64),
            loop_lag_ns=np.array(trace.loop_lag_ns, np.int64),
            cpu_share=trace.cpu_s / window.seconds if window.seconds else 0.0,
            resent=trace.resent,
            connected=trace.connected,
        ),
        asked_input_tokens=workload.input_tokens if workload.prompt == "token_ids" else None,
        asked_output_tokens=workload.output_tokens if workload.ignore_eos else None,
        stopped=trace.stopped,
    )


def _raise_if_hopeless(records: Records, trace: Trace, workload: Workload) -> None:
    """A level without one completed request, or one that had to be given up, measured nothing."""
    if not trace.gave_up and (trace.stopped or records.completed.any()):
        return
    failed = np.flatnonzero(records.failed)
    if not len(failed):
        raise EndpointErrors("no request was answered in the time given to the level")
    last = int(failed[-1])
    line, status = records.error_text(last), int(records.status[last])
    if records.outcome[last] == Outcome.UNREACHABLE:
        raise EndpointUnreachable(line)
    if status in (400, 415, 422) and workload.prompt == "token_ids":
        hint = "(the prompt was a list of token ids: if the endpoint takes none, set prompt=text)"
        raise PromptRefused(f"{line} {hint}", status)
    raise EndpointErrors(line, status or None)


@contextmanager
def _quiet_memory() -> Iterator[None]:
    """No garbage collection while stamps are taken: it would stop the loop for milliseconds."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def _allow_files(connections: int) -> None:
    """Leave to open that many more files, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
