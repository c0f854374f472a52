"""Runs a command on given cores and samples its CPU time and memory."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

SAMPLE_S = 0.2
LIMIT_S = 240.0


@dataclass(slots=True)
class Cost:
    """`cpu_s[i]`: CPU time of the command and its children up to `at_ns[i]`."""

    begin_ns: int
    end_ns: int = 0
    code: int = 0
    output: str = ""
    at_ns: list[int] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    memory_mb: float = 0.0  # peak of all processes together; shared pages count once
    most_processes: int = 0

    def cpu_between_s(self, from_ns: int, until_ns: int) -> float:
        begin, end = np.interp([from_ns, until_ns], self.at_ns, self.cpu_s)
        return float(end - begin)


Priority = Literal["first", "real time", "nice"]
PRIORITIES: dict[Priority, list[str]] = {
    "first": ["chrt", "-f", "20"],
    "real time": ["chrt", "-r", "10"],
    "nice": ["nice", "-n", "-19"],  # with real-time priority its processes would block each other
}


def pinned(command: Sequence[str], cores: Sequence[int], priority: Priority) -> list[str]:
    """The command pinned to the cores, with priority where that is permitted."""
    made = ["taskset", "-c", ",".join(map(str, cores))]
    if os.geteuid() == 0 and shutil.which("chrt"):
        made += PRIORITIES[priority]
    return [*made, *command]


def measured(
    command: Sequence[str],
    cores: Sequence[int],
    env: Mapping[str, str] | None = None,
    priority: Priority = "real time",
) -> Cost:
    """Runs it to its end. CPU time is that of the whole process tree, in steps of 10 ms."""
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"wattfront-bench-{os.getpid()}.log"
    with log.open("w") as out:
        cost = Cost(time.perf_counter_ns())
        with subprocess.Popen(
            pinned(command, cores, priority),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        ) as process:
            try:
                _follow(process, cost)
            finally:
                _kill_tree(process.pid)
    cost.output = log.read_text(errors="replace")
    log.unlink()
    return cost


def _follow(process: "subprocess.Popen[bytes]", cost: Cost) -> None:
    root = psutil.Process(process.pid)
    while process.poll() is None:
        _sample(root, cost)
        if time.perf_counter_ns() - cost.begin_ns > LIMIT_S * 1e9:
            _kill_tree(process.pid)
        time.sleep(SAMPLE_S)
    cost.end_ns, cost.code = time.perf_counter_ns(), process.returncode


def _sample(root: psutil.Process, cost: Cost) -> None:
    cpu_s = memory = 0.0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in tree:
        try:
            times = each.cpu_times()
            memory += pss_mb(each.pid)
        except (psutil.NoSuchProcess, OSError):
            continue
        cpu_s += times.user + times.system + times.children_user + times.children_system
    # The time of a process that just ended is missing until its parent has waited for it.
    cost.at_ns.append(time.perf_counter_ns())
    cost.cpu_s.append(max(cpu_s, cost.cpu_s[-1] if cost.cpu_s else 0.0))
    cost.memory_mb = max(cost.memory_mb, memory)
    cost.most_processes = max(cost.most_processes, len(tree))


def pss_mb(pid: int) -> float:
    """Proportional set size: a page shared by n processes counts 1/n in each."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("Pss:")[2].split()[0]) / 1e3


def _kill_tree(pid: int) -> None:
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for each in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
