"""What the conductor of a load and its shards tell each other. A few messages a second, none a request."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.results.records import Records
from loadgen.workload.workload import Workload

Phase = Literal["warmup", "measure", "drain", "over"]


@dataclass(frozen=True, slots=True)
class Setup:
    """Once, to begin with. `api_key` stays out of every repr."""

    url: str
    model: str
    workload: Workload
    vocabulary: int
    api_key: str | None = field(repr=False)
    shard: int
    shards: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One level for all shards; each takes every n-th start.

    `starts_ns` are offsets. Closed: one start a user, who then goes on. Open: all requests.
    """

    closed: bool
    starts_ns: NDArray[np.int64]
    max_in_flight: int | None
    max_requests: int | None
    request_timeout_s: float
    give_up_after: int  # failures in a row
    first_number: int
    connections: int
    drain: bool  # wait for the answers of what was sent before the level closed


@dataclass(frozen=True, slots=True)
class Go:
    begin_ns: int  # on the shard's clock


@dataclass(frozen=True, slots=True)
class Close:
    """No more requests. Without `drain` what is under way is given up."""

    drain: bool


@dataclass(frozen=True, slots=True)
class Ping:
    sent_ns: int


@dataclass(frozen=True, slots=True)
class Bye:
    pass


@dataclass(frozen=True, slots=True)
class Ready:
    """Answer to Setup and to Plan: all that can be done in advance is done."""


@dataclass(frozen=True, slots=True)
class Pong:
    sent_ns: int
    shard_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """What a shard saw since it last told. Rough where the reply was not read yet.

    `finished`: one row a request, due, first output, end (ns), tokens, and 1 if it was answered.
    """

    at_ns: int
    finished: NDArray[np.int64]
    waiting_ns: NDArray[np.int64]  # due times of all those not finished
    received: int  # bytes
    sent: int


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """How well a shard kept time; `*_at_ns` are the moments of the samples beside them."""

    lateness_ns: NDArray[np.int64]
    lateness_at_ns: NDArray[np.int64]
    loop_lag_ns: NDArray[np.int64]
    loop_lag_at_ns: NDArray[np.int64]
    cpu_ns: NDArray[np.int64]  # spent since the level began
    cpu_at_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A shard's part of a level."""

    records: Records
    series: Series
    begin_ns: int
    over_ns: int
    resent: int
    connected: int
    gave_up: bool
    used: int  # numbers of requests taken
    repeated: int  # of them, those whose prompt had been sent before


@dataclass(frozen=True, slots=True)
class Broken:
    """The shard can't go on: a LoadError by its class and line, or a fault of its own."""

    kind: str
    line: str


ToShard = Setup | Plan | Go | Close | Ping | Bye
FromShard = Ready | Pong | Live | Done | Broken
