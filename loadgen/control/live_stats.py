"""What the shards of a level have told so far, in columns."""

import numpy as np
from numpy.typing import NDArray

from loadgen.worker.messages import Live

Column = NDArray[np.int64]


class Feed:
    def __init__(self, shards: int) -> None:
        self.at_ns = 0
        self._finished: list[Column] = []
        self._waiting: list[Column] = [np.zeros(0, np.int64)] * shards
        self._sent = [0] * shards
        self._received: list[Column] = [np.zeros((0, 2), np.int64)] * shards
        self._table: Column = np.zeros((0, 5), np.int64)

    def add(self, shard: int, live: Live) -> None:
        self.at_ns = max(self.at_ns, live.at_ns)
        self._finished.append(live.finished)
        self._waiting[shard] = live.waiting_ns
        self._sent[shard] = live.sent
        row = np.array([[live.at_ns, live.received]], np.int64)
        self._received[shard] = np.concatenate((self._received[shard], row))

    @property
    def finished(self) -> Column:
        """One row a request: due, first output, end, tokens, 1 if it was answered."""
        if self._finished:
            self._table = np.concatenate((self._table, *self._finished))
            self._finished = []
        return self._table

    @property
    def waiting_ns(self) -> Column:
        """When those fell due that are not finished."""
        return np.concatenate(self._waiting)

    @property
    def sent(self) -> int:
        return sum(self._sent)

    @property
    def completed(self) -> int:
        return int(self.finished[:, 4].sum())

    @property
    def intervals_ns(self) -> tuple[Column, Column]:
        """Due and end of all requests; 0 for an end that is still to come."""
        finished, waiting_ns = self.finished, self.waiting_ns
        ends = np.concatenate((finished[:, 2], np.zeros(len(waiting_ns), np.int64)))
        return np.concatenate((finished[:, 0], waiting_ns)), ends

    @property
    def received(self) -> Column:
        """Rows of a moment and the bytes that came since the one before, of any shard."""
        parts = []
        for rows in self._received:
            bytes_since = np.diff(rows[:, 1], prepend=0)
            parts.append(np.stack((rows[:, 0], bytes_since), axis=1))
        return np.concatenate(parts)
