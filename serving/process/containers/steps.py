"""Ends a step of a Slurm job with all its processes, whoever is left to do it. Standard library only.

The death of `srun` does not end its step: slurmd started it. Its processes are on this node, and have the mark
that their owner gave them. The supervisor of `srun` runs this as a program, and so does the supervisor's guard;
the owner, and whoever finds a dead owner, call `finish_step`.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from serving.process.containers.finish import FINISH_S, Silent, call
from serving.process.generation import pid_of
from serving.process.leftovers import marked

LINGER_S = 5.0  # for Slurm to end a step whose processes are dead: it may still remove the container's files
POLL_S = 0.2
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from serving.process.containers.steps import main; sys.exit(main())"
)


def step_name(mark: str) -> str:
    """The name of an engine's step."""
    return f"wattfront-{mark}"


def first_process(mark: str) -> str | None:
    """The generation of the engine's first process, which is no child of ours; None: it does not run yet."""
    found = {pid_of(each): each for each in marked(mark)}
    for pid, each in sorted(found.items()):
        state, parent = _stat(pid)
        if state not in ("T", "Z", "") and parent not in found and not _supervises(pid):
            return each
    return None


def finish_step(client: str, mark: str, file: Path, within_s: float = FINISH_S) -> str:
    """Ends the step of this mark, and removes its file. Why that failed; empty: no process of it is left.

    A Slurm that does not answer is not waited for: the processes are ended without it.
    """
    begin, spared, answers = time.monotonic(), _ancestors(os.getpid()), True
    while True:
        listed = False
        if answers:
            try:
                listed = _cancel(client, mark)
            except Silent:
                answers = False
        left = [pid for pid in map(pid_of, marked(mark)) if pid not in spared]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        passed_s = time.monotonic() - begin
        if not left and (not listed or passed_s > LINGER_S):
            break
        if left and passed_s > within_s:
            return (
                f"the step {step_name(mark)} may still run: {', '.join(map(str, left))} do not end"
            )
        time.sleep(POLL_S)
    file.unlink(missing_ok=True)
    return ""


def _cancel(client: str, mark: str) -> bool:
    """Whether Slurm has a step of this name, which is then killed. Raises Silent."""
    words = ("--noheader", "--steps", f"--user={os.getuid()}", "--format=%i %j")
    answer = call(_beside(client, "squeue"), *words)
    if answer.code:
        raise Silent(f"squeue: {answer.last_line}")
    lines = [line.split(maxsplit=1) for line in answer.out.splitlines()]
    steps = [line[0] for line in lines if line[1:] == [step_name(mark)]]
    if steps:
        call(_beside(client, "scancel"), "--signal=KILL", *steps)
    return bool(steps)


def _beside(client: str, name: str) -> str:
    path = Path(client).with_name(name)
    return str(path) if path.exists() else name


def _ancestors(pid: int) -> set[int]:
    found = set[int]()
    while pid > 1:
        found.add(pid)
        _, pid = _stat(pid)
    return found


def _stat(pid: int) -> tuple[str, int]:
    """The state and the parent of a process; empty and 0: it ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    state, parent = text[text.rindex(")") + 2 :].split()[:2]
    return state, int(parent)


def _supervises(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"/supervise.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return True


def main() -> int:
    """`CLIENT MARK NODE FILE LOG`."""
    client, mark, _, file, log = sys.argv[1:6]
    if not Path(file).exists():
        return 0
    why = finish_step(client, mark, Path(file))
    if why:
        with contextlib.suppress(OSError), Path(log).open("a") as opened:
            opened.write(f"container: {why}\n")
    return bool(why)
