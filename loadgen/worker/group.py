"""Several shards as one: they start at one instant, and what they tell is put on one clock."""

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
    Broken,
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

PREPARE_S = 600.0  # 100,000 prompts of a data set take seconds, a slow disk more
_PINGS = 40
_HEAD_START_NS = 20_000_000
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """A shard's clock less ours, and by how much that can be wrong: half of the quickest return."""

    offset_ns: int = 0
    uncertainty_ns: int = 0


Links = Callable[[int], "Sequence[Link]"]


def local_links(shards: int) -> Sequence[Link]:
    """One process of this machine each."""
    return _made(shards, LocalLink.start)


def forked_links(shards: int) -> Sequence[Link]:
    """The same, from a process that has no threads yet."""
    return _made(shards, LocalLink.fork)


def _made(shards: int, make: Callable[[], Link]) -> Sequence[Link]:
    links: list[Link] = []
    try:
        for _ in range(shards):
            links.append(make())
    except OSError:
        for link in links:
            link.close()
        raise
    return links


class Gang:
    def __init__(self, links: Sequence[Link]) -> None:
        self.links = links
        self.clocks = tuple(ClockOffset() for _ in links)

    def set_up(self, setup: Setup) -> None:
        """Returns when all are ready. Raises what keeps one from it."""
        for index, link in enumerate(self.links):
            link.send(replace(setup, shard=index, shards=len(self.links)))
        self._until_ready()

    def prepare(self, plan: Plan) -> None:
        """Clocks are compared anew for each level: those of two hosts drift apart."""
        self.tell_all(plan)
        self._until_ready()
        self.clocks = tuple(
            ClockOffset() if isinstance(link, LocalLink) else measured_offset(link)
            for link in self.links
        )

    def tell_all(self, message: ToShard) -> None:
        for link in self.links:
            link.send(message)

    def go(self) -> int:
        """The instant, by our clock, at which all of them begin."""
        slack_ns = max(clock.uncertainty_ns for clock in self.clocks) * 4
        begin_ns = now_ns() + _HEAD_START_NS + slack_ns
        for link, clock in zip(self.links, self.clocks, strict=True):
            link.send(Go(begin_ns + clock.offset_ns))
        return begin_ns

    def close_level(self, drain: bool) -> None:
        self.tell_all(Close(drain))

    def hear(self, timeout_s: float = _POLL_S) -> list[tuple[int, Live | Done]]:
        """What has come from each since, by our clock. Raises what broke one of them."""
        heard: list[tuple[int, Live | Done]] = []
        for index, (link, clock) in enumerate(zip(self.links, self.clocks, strict=True)):
            for message in link.receive(timeout_s / len(self.links)):
                _raise_if_broken(message)
                if isinstance(message, Live):
                    heard.append((index, _live_here(message, clock.offset_ns)))
                elif isinstance(message, Done):
                    heard.append((index, _done_here(message, clock.offset_ns)))
        return heard

    def _until_ready(self) -> None:
        deadline = time.monotonic() + PREPARE_S
        for link in self.links:
            ready = False
            while not ready:
                if time.monotonic() > deadline:
                    raise ShardLost(f"a shard was not ready within {PREPARE_S:g} s")
                for message in link.receive(1.0):
                    _raise_if_broken(message)
                    ready = ready or isinstance(message, Ready)


def measured_offset(link: Link) -> ClockOffset:
    """Of many returns the quickest leaves the least room for where in it the shard's reading lay."""
    best = ClockOffset(0, 1 << 62)
    for _ in range(_PINGS):
        link.send(Ping(now_ns()))
        for message in link.receive(5.0):
            back_ns = now_ns()
            _raise_if_broken(message)
            if isinstance(message, Pong):
                half_ns = (back_ns - message.sent_ns) // 2
                if half_ns < best.uncertainty_ns:
                    best = ClockOffset(message.shard_ns - message.sent_ns - half_ns, half_ns)
    return best


@contextmanager
def gang(shards: int, make: Links = local_links) -> Iterator[Gang]:
    links = make(shards)
    with ExitStack() as stack:
        for link in links:
            stack.callback(link.close)
        yield Gang(links)


def _raise_if_broken(message: FromShard) -> None:
    if isinstance(message, Broken):
        kind = getattr(errors, message.kind, LoadError)
        raise kind(message.line)


def _live_here(live: Live, offset_ns: int) -> Live:
    if not offset_ns:
        return live
    finished = live.finished.copy()
    finished[:, :3] -= offset_ns
    return replace(
        live,
        at_ns=live.at_ns - offset_ns,
        finished=finished,
        waiting_ns=live.waiting_ns - offset_ns,
    )


def _done_here(done: Done, offset_ns: int) -> Done:
    if not offset_ns:
        return done
    series = done.series
    return replace(
        done,
        records=done.records.shifted(-offset_ns),
        series=replace(
            series,
            lateness_at_ns=series.lateness_at_ns - offset_ns,
            loop_lag_at_ns=series.loop_lag_at_ns - offset_ns,
            cpu_at_ns=series.cpu_at_ns - offset_ns,
        ),
        begin_ns=done.begin_ns - offset_ns,
        over_ns=done.over_ns - offset_ns,
    )


def merged(parts: Sequence[Series]) -> Series:
    """Samples side by side; processor time stays with each shard and is not merged here."""
    return Series(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("lateness_ns", "lateness_at_ns", "loop_lag_ns", "loop_lag_at_ns")
        },
        cpu_ns=np.zeros(0, np.int64),
        cpu_at_ns=np.zeros(0, np.int64),
    )
