"""Wakes an event loop at an absolute moment, to tens of µs: the loop's own timers tick in ms."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_ITIMERSPEC = struct.Struct("qqqq")


class Alarm:
    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def at(self, due_s: float) -> None:
        """Of `time.monotonic`; what has passed rings at once. The last call counts."""
        due_ns = max(int(due_s * 1e9), 1)
        spec = _ITIMERSPEC.pack(0, 0, *divmod(due_ns, 10**9))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew since
        self._callback()
