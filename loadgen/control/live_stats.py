"""Live statistics of a level, as its workers report them, in columns."""

import numpy as np
from numpy.typing import NDArray

from loadgen.worker.messages import LiveUpdate

Column = NDArray[np.int64]
SILENCE_MAX_NS = 2_000_000_000  # that one update can show: updates come four times a second


class LiveStats:
    """Collects the updates of all workers."""

    def __init__(self, workers: int) -> None:
        self.at_ns = 0  # of the latest update
        self._new: list[Column] = []
        self._waiting: list[Column] = [np.zeros(0, np.int64)] * workers
        self._received: list[Column] = [np.zeros((0, 2), np.int64)] * workers
        self._finished: Column = np.zeros((0, 5), np.int64)
        self._last_ns = [0] * workers
        self._silent_ns = [0] * workers

    def add(self, worker: int, update: LiveUpdate) -> None:
        """Adds one update."""
        # A worker that was stopped itself has not waited.
        since_ns = min(update.at_ns - (self._last_ns[worker] or update.at_ns), SILENCE_MAX_NS)
        quiet = not update.heard and len(update.waiting_ns) > 0
        self._silent_ns[worker] = self._silent_ns[worker] + since_ns if quiet else 0
        self._last_ns[worker] = update.at_ns
        self.at_ns = max(self.at_ns, update.at_ns)
        self._new.append(update.finished)
        self._waiting[worker] = update.waiting_ns
        row = np.array([[update.at_ns, update.received]], np.int64)
        self._received[worker] = np.concatenate((self._received[worker], row))

    @property
    def finished(self) -> Column:
        """One row per request: due, first output, end, tokens, 1 if it completed."""
        if self._new:
            self._finished = np.concatenate((self._finished, *self._new))
            self._new = []
        return self._finished

    @property
    def waiting_ns(self) -> Column:
        """Due times of the requests without an end."""
        return np.concatenate(self._waiting)

    @property
    def silent_s(self) -> float:
        """For how long the endpoint has sent nothing to any worker, while requests wait; 0: none wait."""
        pairs = zip(self._silent_ns, self._waiting, strict=True)
        return min((silent for silent, waiting in pairs if len(waiting)), default=0) / 1e9

    @property
    def completed(self) -> int:
        """The number of completed requests."""
        return int(self.finished[:, 4].sum())

    @property
    def intervals_ns(self) -> tuple[Column, Column]:
        """Due time and end of all requests; 0 for an end still to come."""
        finished, waiting_ns = self.finished, self.waiting_ns
        ends = np.concatenate((finished[:, 2], np.zeros(len(waiting_ns), np.int64)))
        return np.concatenate((finished[:, 0], waiting_ns)), ends

    @property
    def received(self) -> Column:
        """One row per update: its time, and the output received since the worker's update before."""
        parts = []
        for rows in self._received:
            since = np.diff(rows[:, 1], prepend=0)
            parts.append(np.stack((rows[:, 0], since), axis=1))
        return np.concatenate(parts)
