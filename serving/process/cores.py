"""CPU cores for engines: each engine has its own, among all users of this module on the machine."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


def folder() -> Path:
    """The lock files, one folder per user. A lock is released when its process ends, however that ends."""
    return Path(tempfile.gettempdir(), f"wattfront-cores-{os.getuid()}")


@contextmanager
def reserved(count: int, offered: int = 0) -> Iterator[tuple[int, ...]]:
    """`count` cores that no other engine has, for the length of a with block; () if there are too few.

    `offered`: how many cores all trials on this machine may take together. If that is more than there are,
    the result is () for everyone: engines with cores of their own would slow down those without.
    """
    allowed = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        if max(count, offered) > len(allowed):
            yield ()
            return
        taken: list[int] = []
        for core in allowed:
            if len(taken) < count and (lock := _lock(core)) is not None:
                stack.callback(os.close, lock)
                taken.append(core)
        if len(taken) < count:
            stack.close()
            taken.clear()
        yield tuple(taken)


def _lock(core: int) -> int | None:
    """The open lock file, or None if another process holds it."""
    folder().mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder() / str(core), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
