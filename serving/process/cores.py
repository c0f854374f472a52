"""Cores for engines on the CPU: each engine its own, whoever else on this machine asks here."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


def folder() -> Path:
    """One a user. A lock in it ends with the process that holds it, however that ends."""
    return Path(tempfile.gettempdir(), f"wattfront-cores-{os.getuid()}")


@contextmanager
def reserved(count: int, offered: int = 0) -> Iterator[tuple[int, ...]]:
    """`count` cores that no other engine has, for the length of a with block; () if that can't be.

    `offered`: how many cores trials may take on this machine, all together. Where that is more than
    there are, nobody is given any: half the engines on their own cores would make the others slower.
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
    """An open file that is the lock, or None if somebody else has it."""
    folder().mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder() / str(core), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
