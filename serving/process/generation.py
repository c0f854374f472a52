"""Processes by pid and start time: a pid alone may belong to another process by the time it is used."""

import math
import os
from collections.abc import Iterable
from pathlib import Path


def generation(pid: int) -> str | None:
    """`PID-STARTTIME`, unique since boot; None if the process is dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{pid}-{fields[19]}"


def generations(pids: Iterable[int]) -> frozenset[str]:
    """The generations of those that are alive."""
    return frozenset(filter(None, map(generation, pids)))


def pid_of(generation: str) -> int:
    """The pid in a generation."""
    return int(generation.partition("-")[0])


def parent(pid: int) -> int | None:
    """The parent's pid: of an engine's first process, its supervisor. None if the process is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def started_s(generation: str) -> float:
    """Seconds from boot to the start in a generation; infinite where it has none."""
    _, _, ticks = generation.partition("-")
    return int(ticks) / os.sysconf("SC_CLK_TCK") if ticks.isdigit() else math.inf


def descends(pid: int, root: int | None) -> bool | None:
    """Whether a process is `root` or below it. None: unknown, as it is not here, or dead."""
    if not Path(f"/proc/{pid}").exists():
        return None
    while pid > 1:
        if pid == root:
            return True
        above = parent(pid)
        if above is None:
            return None
        pid = above
    return False
