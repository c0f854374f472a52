"""Ends what an engine leaves although its supervisor was killed: found by a variable that it inherited."""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from serving.errors import EngineLeft
from serving.process.generation import generation, generations, pid_of
from serving.process.reap import alive
from serving.process.supervise import descendants

MARK = "WATTFRONT_ENGINE"  # OWNER.RANDOM[.PART]; OWNER: the generation of the process that started the engine
KILL_S, POLL_S = 30.0, 0.02


def new_mark() -> str:
    """The value of MARK for an engine that this process starts."""
    return f"{generation(os.getpid())}.{secrets.token_hex(8)}"


def part_of(mark: str, name: str) -> str:
    """The mark of one of several engines, or of their router; a new one if they have none."""
    return f"{mark or new_mark()}.{name}"


def marked(mark: str) -> frozenset[str]:
    """The generations of the processes with this mark or a part of it, and of those below them.

    An engine that changes its title overwrites its environment, and with it the mark.
    """
    return _with_below(each for each, found in _marks() if f"{found}.".startswith(f"{mark}."))


def sweep() -> None:
    """Ends the processes of this user whose engines were started by processes that are dead.

    Raises EngineLeft if one does not end: it occupies a device, and no engine may be measured beside it.
    """
    end(lambda: _with_below(e for e, found in _marks() if not alive(found.partition(".")[0])))


def end(find: Callable[[], Collection[str]], within_s: float = KILL_S) -> None:
    """Kills the processes that `find` returns, by generation, until it returns none. Raises EngineLeft."""
    deadline = time.monotonic() + within_s
    while left := find():
        if time.monotonic() > deadline:
            shown = ", ".join(f"{pid_of(each)} ({_name(pid_of(each))})" for each in sorted(left))
            raise EngineLeft(
                f"{within_s:g} s after SIGKILL still running: {shown}; the driver or a file system may be stuck"
            )
        for each in left:
            if alive(each):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid_of(each), signal.SIGKILL)
        time.sleep(POLL_S)


def _with_below(found: Iterable[str]) -> frozenset[str]:
    roots = frozenset(found)
    below = {pid for each in roots for pid in descendants(pid_of(each))}
    return roots | generations(below)


def _marks() -> Iterator[tuple[str, str]]:
    """(generation, mark) of each marked process of this user in this pid namespace."""
    here, user, wanted = Path("/proc/self/ns/pid").readlink(), os.getuid(), f"{MARK}=".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended, or is not ours to read
            if entry.stat().st_uid != user or Path(entry.path, "ns/pid").readlink() != here:
                continue
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
            mark = next((each for each in variables if each.startswith(wanted)), None)
            if mark is not None and (found := generation(int(entry.name))) is not None:
                yield found, mark[len(wanted) :].decode(errors="replace")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
