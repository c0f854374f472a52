"""Drives a workload at an endpoint: levels one after the other, each by all shards at once."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from loadgen.clock import ClockAnchor
from loadgen.control.finalize import raise_if_hopeless, settled
from loadgen.control.level_controller import Tick, TickPhase, conduct
from loadgen.control.load_plan import Load, next_load, plan_of
from loadgen.errors import LoadError
from loadgen.http.protocol import Target
from loadgen.results.report import Level, LoadReport, Progress
from loadgen.worker.group import Gang, Links, gang, local_links
from loadgen.worker.messages import Setup
from loadgen.workload.workload import Workload, level_count

OnProgress = Callable[[Progress], None]
AfterLevel = Callable[[Level], str]


def run(  # noqa: PLR0913 (what may be set of a load, by name)
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
    after_level: AfterLevel | None = None,
) -> LoadReport:
    """Blocks until the last level is done, or `stop()` says so. Raises a LoadError.

    A level at which the endpoint answers nothing ends the load; it is raised only if there was none
    before it. `on_progress` and `stop` are called about five times a second. `first`: the load, in
    users or requests per second, to measure before the others. `after_level` is asked after each level;
    what it says, unless it is empty, is why the load ends there.
    """
    Target.parse(url, api_key)
    clock = ClockAnchor.take()
    levels: list[Level] = []
    used = 0
    with gang(workload.shards, links) as shards:
        shards.set_up(Setup(url, model, workload, vocabulary, api_key, 0, workload.shards))
        while (load := next_load(workload, levels, first)) is not None:
            tick = _progress(workload, load, on_progress)
            try:
                level, numbers = _level(shards, workload, load, used, tick, stop or _never)
            except LoadError as error:
                if not levels:
                    raise
                return LoadReport(tuple(levels), clock, failure=error)
            used += numbers
            levels.append(level)
            if level.stopped:
                return LoadReport(tuple(levels), clock, stopped=True)
            if after_level is not None and (why := after_level(level)):
                return LoadReport(tuple(levels), clock, ended_because=why)
    return LoadReport(tuple(levels), clock)


def _never() -> bool:
    return False


def _level(
    shards: Gang,
    workload: Workload,
    load: Load,
    used: int,
    tick: Tick,
    stop: Callable[[], bool],
) -> tuple[Level, int]:
    shards.prepare(plan := plan_of(workload, load, used))
    outcomes = conduct(shards, workload, load, plan, tick, stop)
    index = np.full(len(outcomes.records), load.index, np.int32)
    outcomes = replace(outcomes, records=replace(outcomes.records, level=index))
    raise_if_hopeless(outcomes, workload)
    return settled(workload, load, outcomes), outcomes.used


def _progress(workload: Workload, load: Load, on_progress: OnProgress | None) -> Tick:
    def tick(phase: TickPhase, completed: int, elapsed_s: float) -> None:
        if on_progress is not None:
            on_progress(
                Progress(
                    level=load.index,
                    levels=level_count(workload),
                    load=load.name,
                    phase=phase,
                    completed=completed,
                    elapsed_s=elapsed_s,
                    expected_s=workload.warmup_s + workload.level_s,
                )
            )

    return tick
