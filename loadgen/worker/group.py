"""Several worker processes as one: they start at one instant, and their messages are put on one clock."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from loadgen import errors
from loadgen.clock import now_ns
from loadgen.errors import LoadError, ShardLost
from loadgen.worker.link import Link, LocalLink
from loadgen.worker.messages import (
    Close,
    FromWorker,
    LiveUpdate,
    Ping,
    Plan,
    Pong,
    Ready,
    Setup,
    Start,
    TimingSeries,
    ToWorker,
    WorkerFailure,
    WorkerResult,
)

PREPARE_S = 600.0  # 100,000 prompts of a data set take seconds, a slow disk more
_PINGS = 40
_HEAD_START_NS = 20_000_000
_POLL_S = 0.2
_UNKNOWN_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """A worker's clock minus ours. The uncertainty is half of the shortest round trip."""

    offset_ns: int = 0
    uncertainty_ns: int = 0


Links = Callable[[int], "Sequence[Link]"]  # starts so many workers


def local_links(workers: int) -> Sequence[Link]:
    """Workers as processes of this machine."""
    return _started(workers, LocalLink.start)


def forked_links(workers: int) -> Sequence[Link]:
    """The same by fork: faster, and only for a process without threads."""
    return _started(workers, LocalLink.fork)


def _started(workers: int, start: Callable[[], Link]) -> Sequence[Link]:
    links: list[Link] = []
    try:
        for _ in range(workers):
            links.append(start())
    except OSError:
        for link in links:
            link.close()
        raise
    return links


class WorkerGroup:
    """The workers of a load."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = links
        self.clocks = tuple(ClockOffset() for _ in links)

    def set_up(self, setup: Setup) -> None:
        """Returns when all are ready. Raises the LoadError of one that failed."""
        for index, link in enumerate(self.links):
            link.send(replace(setup, worker=index, workers=len(self.links)))
        self._wait_until_ready()

    def prepare(self, plan: Plan) -> None:
        """Sends a level's plan. Compares the clocks again, as those of two hosts drift apart."""
        self._broadcast(plan)
        self._wait_until_ready()
        self.clocks = tuple(
            ClockOffset() if isinstance(link, LocalLink) else measured_offset(link)
            for link in self.links
        )

    def start(self) -> int:
        """Starts the level. Returns the instant, on our clock, at which all begin."""
        slack_ns = max(clock.uncertainty_ns for clock in self.clocks) * 4
        begin_ns = now_ns() + _HEAD_START_NS + slack_ns
        for link, clock in zip(self.links, self.clocks, strict=True):
            link.send(Start(begin_ns + clock.offset_ns))
        return begin_ns

    def close_level(self, drain: bool) -> None:
        """Ends the level; without `drain`, requests in flight are abandoned."""
        self._broadcast(Close(drain))

    def receive(self, timeout_s: float = _POLL_S) -> list[tuple[int, LiveUpdate | WorkerResult]]:
        """New messages by worker, times on our clock. Raises the LoadError of a worker that failed."""
        received: list[tuple[int, LiveUpdate | WorkerResult]] = []
        for index, (link, clock) in enumerate(zip(self.links, self.clocks, strict=True)):
            for message in link.receive(timeout_s / len(self.links)):
                _raise_failure(message)
                if isinstance(message, LiveUpdate):
                    received.append((index, _update_on_our_clock(message, clock.offset_ns)))
                elif isinstance(message, WorkerResult):
                    received.append((index, _result_on_our_clock(message, clock.offset_ns)))
        return received

    def _broadcast(self, message: ToWorker) -> None:
        for link in self.links:
            link.send(message)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PREPARE_S
        for link in self.links:
            ready = False
            while not ready:
                if time.monotonic() > deadline:
                    raise ShardLost(f"a worker process was not ready within {PREPARE_S:g} s")
                for message in link.receive(1.0):
                    _raise_failure(message)
                    ready = ready or isinstance(message, Ready)


def measured_offset(link: Link) -> ClockOffset:
    """From the shortest of many round trips: it bounds best when the worker read its clock."""
    best = ClockOffset(0, _UNKNOWN_NS)
    for _ in range(_PINGS):
        link.send(Ping(now_ns()))
        for message in link.receive(5.0):
            back_ns = now_ns()
            _raise_failure(message)
            if isinstance(message, Pong):
                half_ns = (back_ns - message.sent_ns) // 2
                if half_ns < best.uncertainty_ns:
                    best = ClockOffset(message.worker_ns - message.sent_ns - half_ns, half_ns)
    if best.uncertainty_ns == _UNKNOWN_NS:
        raise ShardLost("a worker process does not answer")
    return best


@contextmanager
def worker_group(workers: int, start: Links = local_links) -> Iterator[WorkerGroup]:
    """Starts the workers, and ends them on exit."""
    links = start(workers)
    with ExitStack() as stack:
        for link in links:
            stack.callback(link.close)
        yield WorkerGroup(links)


def _raise_failure(message: FromWorker) -> None:
    if isinstance(message, WorkerFailure):
        kind = getattr(errors, message.kind, LoadError)
        raise kind(message.line)


def _update_on_our_clock(update: LiveUpdate, offset_ns: int) -> LiveUpdate:
    if not offset_ns:
        return update
    finished = update.finished.copy()
    finished[:, :3] -= offset_ns
    return replace(
        update,
        at_ns=update.at_ns - offset_ns,
        finished=finished,
        waiting_ns=update.waiting_ns - offset_ns,
    )


def _result_on_our_clock(result: WorkerResult, offset_ns: int) -> WorkerResult:
    if not offset_ns:
        return result
    series = result.series
    return replace(
        result,
        records=result.records.shifted(-offset_ns),
        series=replace(
            series,
            lateness_at_ns=series.lateness_at_ns - offset_ns,
            loop_lag_at_ns=series.loop_lag_at_ns - offset_ns,
            cpu_at_ns=series.cpu_at_ns - offset_ns,
        ),
        begin_ns=result.begin_ns - offset_ns,
        over_ns=result.over_ns - offset_ns,
    )


def merged(parts: Sequence[TimingSeries]) -> TimingSeries:
    """All samples; processor time is left out, as it is per worker."""
    return TimingSeries(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("lateness_ns", "lateness_at_ns", "loop_lag_ns", "loop_lag_at_ns")
        },
        cpu_ns=np.zeros(0, np.int64),
        cpu_at_ns=np.zeros(0, np.int64),
    )
