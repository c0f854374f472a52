"""Runs a workload against an endpoint: level after level, each on all workers at once."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from loadgen.clock import ClockAnchor
from loadgen.control.finalize import finalize_level, raise_if_failed
from loadgen.control.level_controller import LevelController, Tick, TickPhase
from loadgen.control.load_plan import Load, plan_of
from loadgen.control.measured_levels import AfterLevel, MeasuredLevels
from loadgen.errors import LoadError
from loadgen.http.connection_pool import tls
from loadgen.http.protocol import Target
from loadgen.http.request_encoder import secret_headers
from loadgen.results.report import Level, LoadReport, Progress
from loadgen.worker.group import Links, WorkerGroup, local_links, worker_group
from loadgen.worker.messages import Setup
from loadgen.workload.workload import Workload, level_count

OnProgress = Callable[[Progress], None]
_SALTS = 10**6


def run(  # noqa: PLR0913 (the options of a load, by name)
    url: str,
    model: str,
    workload: Workload,
    *,
    vocabulary: int = 32000,
    api_key: str | None = None,
    links: Links = local_links,
    on_progress: OnProgress | None = None,
    stop: Callable[[], bool] | None = None,
    first: float | None = None,
    before_level: Callable[[], None] | None = None,
    after_level: AfterLevel | None = None,
) -> LoadReport:
    """Blocks until the last level is over, or `stop()` is true. Raises a LoadError.

    A level without an answer ends the load, and raises only if it is the first. A level that contradicts others
    is measured again (`measured_levels`). `on_progress` and `stop` are
    called about five times a second. `first`: the load to measure first, in users or requests per second.
    `before_level` is called while no request is on its way.
    `after_level` returns why the load ends after this level; empty: it continues.
    """
    tls(Target.parse(url, api_key, workload.request))
    workload = salted(workload)
    headers = secret_headers(workload.request)
    clock = ClockAnchor.take()
    measured = MeasuredLevels(workload, first)
    used = 0

    def report(**how: Any) -> LoadReport:
        return LoadReport(measured.levels, clock, prompt_salt=workload.prompt_salt or 0, **how)

    with worker_group(workload.shards, links) as workers:
        shards = workload.shards
        workers.set_up(Setup(url, model, workload, vocabulary, api_key, 0, shards, headers))
        while (load := measured.next()) is not None:
            tick = _progress(workload, load, on_progress)
            if before_level is not None:
                before_level()
            try:
                level, numbers = _level(workers, workload, load, used, tick, stop or _never)
            except LoadError as error:
                if not len(measured):
                    raise
                return report(failure=error)
            used += numbers
            measured.add(load, level)
            if level.stopped:
                return report(stopped=True)
            if why := measured.ended_by(after_level, level):
                return report(ended_because=why)
    return report()


def salted(workload: Workload) -> Workload:
    """The workload with the salt of its prompts: a new one, unless it has one."""
    if workload.prompt_salt is not None:
        return workload
    salt = 1 + secrets.randbelow(_SALTS)
    return workload.model_copy(update={"prompt_salt": salt})


def _never() -> bool:
    return False


def _level(
    workers: WorkerGroup,
    workload: Workload,
    load: Load,
    used: int,
    tick: Tick,
    stop: Callable[[], bool],
) -> tuple[Level, int]:
    workers.prepare(plan := plan_of(workload, load, used))
    raw = LevelController(workers, workload, load, plan, tick, stop).run()
    index = np.full(len(raw.records), load.index, np.int32)
    raw = replace(raw, records=replace(raw.records, level=index))
    raise_if_failed(raw, workload)
    return finalize_level(workload, load, raw), raw.used


def _progress(workload: Workload, load: Load, on_progress: OnProgress | None) -> Tick:
    def tick(phase: TickPhase, completed: int, elapsed_s: float, silent_s: float) -> None:
        if on_progress is not None:
            on_progress(
                Progress(
                    level=load.index,
                    levels=max(level_count(workload), load.index + 1),
                    load=load.name,
                    phase=phase,
                    completed=completed,
                    elapsed_s=elapsed_s,
                    expected_s=workload.warmup_s + workload.level_s,
                    silent_s=silent_s,
                )
            )

    return tick
