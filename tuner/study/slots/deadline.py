"""Ends waits for a cluster that does not answer: each says what it waits for, and gives up."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from serving.process.supervise import descendants
from tuner.study.capacity import ClusterError

SAY_EVERY_S = 15.0
STUCK_S = 20.0  # for the main thread to leave a call into Ray's core after the signal
EXIT_CODE = 4  # that of a missing cluster
SIGNAL = signal.SIGUSR1

Say = Callable[[str], None]


@contextmanager
def abortable() -> Iterator[Callable[[str], None]]:
    """Yields a function for other threads: it raises ClusterError in the block, which the main thread runs.

    If the block does not react, since a call into Ray's core waits for ever, the process ends with EXIT_CODE,
    and with it all processes that it started. What was measured is in the ledger by then.
    """
    why: list[str] = []
    left = threading.Event()

    def abort(reason: str) -> None:
        if left.is_set():
            return
        why.append(reason)
        signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
        if not left.wait(STUCK_S):
            sys.stderr.write(f"wattfront: {reason}\n")
            sys.stderr.flush()
            _end_process()

    def handler(number: int, frame: FrameType | None) -> None:
        if why:
            raise ClusterError(why[0])

    before = signal.signal(SIGNAL, handler)
    try:
        yield abort
    finally:
        # The signal may be on its way: its default would end the process.
        signal.signal(SIGNAL, before if callable(before) else _too_late)
        left.set()


def _too_late(number: int, frame: FrameType | None) -> None:
    """The block has ended by itself."""


@contextmanager
def waiting(what: str, give_up_s: float, say: Say) -> Iterator[None]:
    """Says every SAY_EVERY_S how long the block has waited. Raises ClusterError after `give_up_s`."""
    ended = threading.Event()

    def watch(abort: Callable[[str], None]) -> None:
        began = time.monotonic()
        while (rest_s := began + give_up_s - time.monotonic()) > 0:
            if ended.wait(min(SAY_EVERY_S, rest_s)):
                return
            waited_s = time.monotonic() - began
            if waited_s < give_up_s:
                say(f"waiting for {what} for {waited_s:.0f} s; gives up after {give_up_s:.0f} s")
        abort(f"{what}: no answer within {give_up_s:.0f} s")

    with abortable() as abort:
        thread = threading.Thread(target=watch, args=[abort], daemon=True, name="deadline")
        thread.start()
        try:
            yield
        finally:
            ended.set()


@contextmanager
def ending_children() -> Iterator[None]:
    """Kills what the block has started, if it raises."""
    before, whole = {*descendants(os.getpid())}, False
    try:
        yield
        whole = True
    finally:
        if not whole:
            _kill({*descendants(os.getpid())} - before)


def _end_process() -> None:
    _kill({*descendants(os.getpid())})
    os._exit(EXIT_CODE)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
