"""Controls one level: starts the workers, follows their live statistics, and ends the level in time."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import now_ns
from loadgen.control.live_stats import LiveStats
from loadgen.control.load_plan import Load, planned_ns
from loadgen.control.stopping import Ending, StoppingRule
from loadgen.errors import ShardLost
from loadgen.results.records import Records, concat
from loadgen.worker.group import WorkerGroup, merged
from loadgen.worker.messages import LiveUpdate, Plan, TimingSeries, WorkerResult
from loadgen.workload.workload import Workload

_RESULT_S = 60.0  # beyond the time-out of a request, for a worker to send its result
SILENT_S = (
    30.0  # without a message of a worker, beyond the time that it may need to parse its level
)
_POLL_MAX_S = (
    1.0  # of silence that a single poll can show: this process may have been stopped itself
)

TickPhase = Literal["warmup", "measure", "drain"]
# Phase, completed requests, elapsed s, s for which the endpoint has sent nothing while requests wait.
Tick = Callable[[TickPhase, int, float, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class RawLevel:
    """A level as it happened, on one clock, before its window is found."""

    records: Records
    planned_ns: NDArray[np.int64]  # when each start of the plan fell due, by slot
    series: TimingSeries
    begin_ns: int
    close_ns: int  # nothing new was sent afterwards
    over_ns: int
    ending: Ending
    cpu: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]  # per worker: times, ns spent
    resent: int
    connected: int
    clock_uncertainty_ns: int
    gave_up: bool
    stopped: bool
    used: int
    repeated: int


class LevelController:
    """Runs one planned level on workers that are ready. `stop`: whether the caller wants it to end."""

    def __init__(
        self,
        workers: WorkerGroup,
        workload: Workload,
        load: Load,
        plan: Plan,
        tick: Tick,
        stop: Callable[[], bool],
    ) -> None:
        self._workers = workers
        self._workload, self._load, self._plan = workload, load, plan
        self._tick, self._stop = tick, stop
        self._stats = LiveStats(len(workers.links))
        self._results: dict[int, WorkerResult] = {}
        self._silence_s = [0.0] * len(workers.links)
        self._polled_s = time.monotonic()
        self._stopped = False
        self._begin_ns = 0

    def run(self) -> RawLevel:
        """Raises ShardLost, or the LoadError of a worker that failed."""
        self._begin_ns = self._workers.start()
        ending = self._measure(StoppingRule(self._workload, self._load, self._begin_ns))
        close_ns = 0
        if ending is not None:
            close_ns = now_ns()
            self._drain(ending)
        return self._collect(ending or Ending(""), close_ns)

    @property
    def _running(self) -> bool:
        return len(self._results) < len(self._workers.links)

    @property
    def _elapsed_s(self) -> float:
        return (now_ns() - self._begin_ns) / 1e9

    def _measure(self, rule: StoppingRule) -> Ending | None:
        """Until the level is to end; None: every worker sent all of its requests before."""
        while self._running:
            updated = self._receive()
            self._stopped = self._stop()
            if self._stopped or any(result.gave_up for result in self._results.values()):
                return Ending("", drain=False)
            if updated and (ending := rule.ending(self._stats)) is not None:
                return ending
            elapsed_s = self._elapsed_s
            phase: TickPhase = "warmup" if elapsed_s < self._workload.warmup_s else "measure"
            self._tick(phase, self._stats.completed, elapsed_s, self._stats.silent_s)
        return None

    def _drain(self, ending: Ending) -> None:
        """Closes the level and waits for the result of every worker."""
        self._workers.close_level(ending.drain and self._plan.drain)
        # A worker parses its replies now, in less time than they took to arrive.
        patience_s = self._workload.request_timeout_s + _RESULT_S + self._elapsed_s
        deadline = time.monotonic() + patience_s
        self._tick("drain", self._stats.completed, self._elapsed_s, self._stats.silent_s)
        while self._running:
            self._receive()
            if not self._stopped and self._stop():
                self._stopped = True
                self._workers.close_level(drain=False)
            if time.monotonic() > deadline:
                raise ShardLost("a worker process did not end its level in time")
            self._tick("drain", self._stats.completed, self._elapsed_s, self._stats.silent_s)

    def _receive(self) -> bool:
        """Whether there was a live update among the new messages."""
        updated = False
        messages = self._workers.receive()
        self._judge_silence({worker for worker, _ in messages})
        for worker, message in messages:
            if isinstance(message, LiveUpdate):
                self._stats.add(worker, message)
                updated = True
            else:
                self._results[worker] = message
        return updated

    def _judge_silence(self, heard: Collection[int]) -> None:
        """Raises ShardLost for a worker that sends nothing for longer than parsing its level can take."""
        since_s = min(time.monotonic() - self._polled_s, _POLL_MAX_S)
        self._polled_s = time.monotonic()
        allowed_s = SILENT_S + self._elapsed_s / 2
        for worker, silence_s in enumerate(self._silence_s):
            over = worker in self._results or worker in heard
            self._silence_s[worker] = 0.0 if over else silence_s + since_s
            if self._silence_s[worker] > allowed_s:
                raise ShardLost(
                    f"a process of the load generator has sent nothing for {silence_s:.0f} s"
                )

    def _collect(self, ending: Ending, close_ns: int) -> RawLevel:
        parts = [self._results[index] for index in range(len(self._workers.links))]
        over_ns = max(part.over_ns for part in parts)
        return RawLevel(
            records=concat([part.records for part in parts]),
            planned_ns=planned_ns(self._plan, self._begin_ns),
            series=merged([part.series for part in parts]),
            begin_ns=self._begin_ns,
            close_ns=close_ns or over_ns,
            over_ns=over_ns,
            ending=ending,
            cpu=tuple((part.series.cpu_at_ns, part.series.cpu_ns) for part in parts),
            resent=sum(part.resent for part in parts),
            connected=sum(part.connected for part in parts),
            clock_uncertainty_ns=max(clock.uncertainty_ns for clock in self._workers.clocks),
            gave_up=any(part.gave_up for part in parts),
            stopped=self._stopped,
            used=max(part.used for part in parts),
            repeated=sum(part.repeated for part in parts),
        )
