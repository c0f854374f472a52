"""Messages between the level controller and its workers: a few per second, none per request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.results.records import Records
from loadgen.workload.workload import Workload

Phase = Literal["measure", "drain", "over"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message, once per load. Secrets stay out of every repr: `api_key`, values of `headers`."""

    url: str
    model: str
    workload: Workload
    vocabulary: int
    api_key: str | None = field(repr=False)
    worker: int
    workers: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """One level for all workers; each takes every n-th start.

    `starts_ns`: offsets from the level's start. Closed loop: one start per user. Open loop: one per request.
    """

    closed: bool
    starts_ns: NDArray[np.int64]
    max_in_flight: int | None
    max_requests: int | None
    request_timeout_s: float
    give_up_after: int  # failures in a row
    first_number: int
    connections: int
    drain: bool  # wait for answers to what was sent before the level closed


@dataclass(frozen=True, slots=True)
class Start:
    """The level begins at this instant, on the worker's clock."""

    begin_ns: int


@dataclass(frozen=True, slots=True)
class Close:
    """No more requests. Without `drain`, those in flight are abandoned."""

    drain: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for the worker's clock."""

    sent_ns: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The worker process ends."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Answer to Setup and to Plan: everything is prepared."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to Ping: its time, and the worker's."""

    sent_ns: int
    worker_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class LiveUpdate:
    """What happened since the worker's last update. Estimates: no reply was parsed yet.

    `finished`: one row per request: due, first output, end (ns), tokens, 1 if it completed. `heard`: the
    endpoint sent something, or ended a request.
    """

    at_ns: int
    finished: NDArray[np.int64]
    waiting_ns: NDArray[np.int64]  # due times of all requests without an end
    received: int  # output since the level began, in one unit per level
    heard: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class TimingSeries:
    """How well a worker kept time; `*_at_ns` are the times of the samples beside them."""

    lateness_ns: NDArray[np.int64]
    lateness_at_ns: NDArray[np.int64]
    loop_lag_ns: NDArray[np.int64]
    loop_lag_at_ns: NDArray[np.int64]
    cpu_ns: NDArray[np.int64]  # spent since the level began
    cpu_at_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class WorkerResult:
    """A worker's part of a level that is over."""

    records: Records
    series: TimingSeries
    begin_ns: int
    over_ns: int
    resent: int
    connected: int
    gave_up: bool
    used: int  # request numbers taken
    repeated: int  # requests whose prompt was sent before


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """A LoadError of the worker, by its class and its line."""

    kind: str
    line: str


ToWorker = Setup | Plan | Start | Close | Ping | Shutdown
FromWorker = Ready | Pong | LiveUpdate | WorkerResult | WorkerFailure
