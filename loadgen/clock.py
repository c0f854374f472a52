"""One monotonic clock for stamps and alarms, and its offset to the time of day."""

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

now_ns = time.perf_counter_ns  # CLOCK_MONOTONIC on Linux: the clock of timerfd below as well

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_ITIMERSPEC = struct.Struct("qqqq")


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """One instant on both clocks: relates the stamps of several hosts, and those of power meters."""

    perf_ns: int
    epoch_ns: int

    @classmethod
    def take(cls) -> Self:
        """Of several pairs, the one read in the shortest time."""
        pairs = []
        for _ in range(8):
            before_ns = now_ns()
            epoch_ns = time.time_ns()
            after_ns = now_ns()
            pairs.append((after_ns - before_ns, (before_ns + after_ns) // 2, epoch_ns))
        _, perf_ns, epoch_ns = min(pairs)
        return cls(perf_ns, epoch_ns)

    def epoch_s(self, perf_ns: int) -> float:
        """A stamp as Unix time."""
        return (self.epoch_ns + perf_ns - self.perf_ns) / 1e9


class Alarm:
    """Calls back at absolute instants, accurate to tens of µs; the event loop's own timers tick in ms."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[int], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def at(self, due_ns: int, every_ns: int = 0) -> None:
        """Sets the next instant, and a period. An instant in the past fires at once."""
        due_s, due_rest_ns = divmod(max(due_ns, 1), 10**9)
        spec = _ITIMERSPEC.pack(*divmod(every_ns, 10**9), due_s, due_rest_ns)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _expired(self) -> None:
        try:
            expirations = int.from_bytes(os.read(self._fd, 8), "little")
        except BlockingIOError:
            return
        self._callback(expirations)

    def close(self) -> None:
        """Releases the timer."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


@contextmanager
def alarm(loop: asyncio.AbstractEventLoop, callback: Callable[[int], None]) -> Iterator[Alarm]:
    """An Alarm, closed on exit. `callback` gets the number of expirations since its last call."""
    timer = Alarm(loop, callback)
    try:
        yield timer
    finally:
        timer.close()


class Heartbeat:
    """How late the event loop runs what is due, which bounds the error of its stamps.

    A beat missed while the loop was blocked is a sample too, with its own lateness.
    """

    def __init__(self, period_ns: int, first_ns: int) -> None:
        self.period_ns = period_ns
        self.lag_ns: list[int] = []
        self._next_ns = first_ns

    def beat(self, expirations: int, at_ns: int) -> None:
        """Records the lateness of the beats since the last call."""
        for _ in range(expirations):
            self.lag_ns.append(at_ns - self._next_ns)
            self._next_ns += self.period_ns
