"""Conducts one level: starts the shards, hears how it goes, and says when it has been long enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import now_ns
from loadgen.control.live_stats import Feed
from loadgen.control.load_plan import Load
from loadgen.control.stopping import Ending, Judge
from loadgen.errors import ShardLost
from loadgen.results.records import Records, concat
from loadgen.worker.group import Gang, merged
from loadgen.worker.messages import Done, Live, Plan, Series
from loadgen.workload.workload import Workload

_PATIENCE_S = 60.0  # beyond the timeout of a request, for a shard to hand in its columns


TickPhase = Literal["warmup", "measure", "drain"]
Tick = Callable[[TickPhase, int, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """A level as it happened, on one clock, before its window is found."""

    records: Records
    series: Series
    begin_ns: int
    close_ns: int  # from here on nothing more was sent
    over_ns: int
    ending: Ending
    cpu: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]  # moments, spent ns; of each shard
    resent: int
    connected: int
    clock_uncertainty_ns: int
    gave_up: bool
    stopped: bool
    used: int
    repeated: int


def conduct(
    shards: Gang,
    workload: Workload,
    load: Load,
    plan: Plan,
    tick: Tick,
    stop: Callable[[], bool],
) -> Outcomes:
    """Raises ShardLost, or what keeps a shard from going on."""
    begin_ns = shards.go()
    feed, dones = Feed(len(shards.links)), dict[int, Done]()
    judge = Judge(workload, load, begin_ns)
    ending: Ending | None = None
    close_ns, stopped = 0, False
    deadline = float("inf")
    while len(dones) < len(shards.links):
        news = _hear(shards, feed, dones)
        at_ns = now_ns()
        if ending is None:
            stopped = stop()
            gave_up = any(done.gave_up for done in dones.values())
            if stopped or gave_up:
                ending = Ending("", drain=False)
            elif news:
                ending = judge.ending(feed)
            if ending is not None:
                close_ns = at_ns
                shards.close_level(ending.drain and plan.drain)
                # To read the replies takes a shard its time, but less than they took to come.
                patience_s = _PATIENCE_S + (at_ns - begin_ns) / 1e9
                deadline = time.monotonic() + workload.request_timeout_s + patience_s
        elif stop() and not stopped:
            stopped = True
            shards.close_level(drain=False)
        if time.monotonic() > deadline:
            raise ShardLost("a shard did not end its level in time")
        elapsed_s = (at_ns - begin_ns) / 1e9
        tick(_phase(ending, elapsed_s, workload), feed.completed, elapsed_s)
    parts = [dones[index] for index in range(len(shards.links))]
    return Outcomes(
        records=concat([part.records for part in parts]),
        series=merged([part.series for part in parts]),
        begin_ns=begin_ns,
        close_ns=close_ns or max(part.over_ns for part in parts),
        over_ns=max(part.over_ns for part in parts),
        ending=ending or Ending(""),
        cpu=tuple((part.series.cpu_at_ns, part.series.cpu_ns) for part in parts),
        resent=sum(part.resent for part in parts),
        connected=sum(part.connected for part in parts),
        clock_uncertainty_ns=max(clock.uncertainty_ns for clock in shards.clocks),
        gave_up=any(part.gave_up for part in parts),
        stopped=stopped,
        used=max(part.used for part in parts),
        repeated=sum(part.repeated for part in parts),
    )


def _hear(shards: Gang, feed: Feed, dones: dict[int, Done]) -> bool:
    news = False
    for shard, message in shards.hear():
        if isinstance(message, Live):
            feed.add(shard, message)
            news = True
        else:
            dones[shard] = message
    return news


def _phase(ending: Ending | None, elapsed_s: float, workload: Workload) -> TickPhase:
    if ending is not None:
        return "drain"
    return "warmup" if elapsed_s < workload.warmup_s else "measure"
