"""Wakes an event loop at an absolute time to within tens of µs, through Linux's timerfd.

The loop's own timers have a resolution of milliseconds.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_ITIMERSPEC = struct.Struct("qqqq")


class Timer:
    """One timer that calls back in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def set(self, due_s: float) -> None:
        """Fires at `due_s` of `time.monotonic`, or at once if that has passed. Replaces an earlier setting."""
        due_ns = max(int(due_s * 1e9), 1)
        spec = _ITIMERSPEC.pack(0, 0, *divmod(due_ns, 10**9))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Removes it from the loop."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set again since it expired
        self._callback()
