"""CPU cores for engines: each engine has its own, among all users of this module on the machine."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from serving.process.locks import locked


@contextmanager
def reserved(count: int, offered: int = 0) -> Iterator[tuple[int, ...]]:
    """`count` cores that no other engine has, for the length of a with block; () if there are too few.

    `offered`: how many cores all trials on this machine may take together. If that is more than there are,
    the result is () for everyone: engines with cores of their own would slow down those without.
    Raises LaunchError where the locks can't be kept from other users.
    """
    allowed = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        if max(count, offered) > len(allowed):
            yield ()
            return
        taken: list[int] = []
        for core in allowed:
            if len(taken) < count and (lock := locked(f"core-{core}")) is not None:
                stack.callback(os.close, lock)
                taken.append(core)
        if len(taken) < count:
            stack.close()
            taken.clear()
        yield tuple(taken)
