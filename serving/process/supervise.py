"""Runs a command so that no process of it outlives its owner. A script: standard library only.

    python -S -E supervise.py STATE LOG GRACE_S CORES -- ARGV…

Standard input is a pipe that the owner holds open.

Forks twice, so that it is not a child of the owner: Ray kills the direct children of a worker that
exits, and the supervisor must survive that. As a subreaper it inherits every orphan of the tree,
however it daemonised. When the pipe closes (the owner closed it, or is dead by any signal), on
SIGTERM, or when the command exits, the whole tree gets SIGTERM, and after GRACE_S seconds SIGKILL.
STATE holds `SUPERVISOR ENGINE` (pids), and STATE.exit the exit code; once the pipe is closed nobody
reads them, and they are removed with their folder.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILL_S, POLL_S = 30.0, 0.02


def descendants(root: int) -> list[int]:
    """Every process below `root`, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text()
                parent = int(stat[stat.rindex(")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(0), [])
        found += below
        todo += below
    return found


def write(path: Path, text: str) -> None:
    """Writes the file atomically: the owner polls for it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def start(argv: list[str], log: Path, cores: str) -> int:
    """Starts the engine in a session of its own; the kernel kills it if the supervisor is killed."""
    pid = os.fork()
    if pid:
        return pid
    status = 127
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.closerange(3, 256)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"could not start {argv[0]}: {error.strerror}\n".encode())
        status = 126 if isinstance(error, PermissionError) else 127
    finally:
        os._exit(status)


def wait(engine: int) -> int | None:
    """Waits until the owner closes the pipe (None) or the engine exits (its code, negative for a signal)."""
    stop, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exited = os.pidfd_open(engine)
    while True:
        ready, _, _ = select.select([0, stop, exited], [], [])
        if exited in ready:
            _, status = os.waitpid(engine, 0)
            return os.waitstatus_to_exitcode(status)
        if stop in ready or not os.read(0, 4096):
            return None


def reap() -> None:
    """Collects children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(grace_s: float) -> None:
    """SIGTERM to the whole tree, and after `grace_s` SIGKILL to what is left of it."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        deadline = time.monotonic() + patience_s
        signalled: set[int] = set()
        while True:
            reap()
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                if pid not in signalled or number == signal.SIGKILL:
                    signalled.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)


def remove_state(state: Path) -> None:
    """Removes the state file and its folder, in case the owner is dead and can't."""
    with contextlib.suppress(OSError):
        state.unlink()
        state.parent.rmdir()


def main() -> None:
    """Detaches, starts the command, waits, and ends its tree."""
    state, log = Path(sys.argv[1]), Path(sys.argv[2])
    grace_s, cores = float(sys.argv[3]), sys.argv[4]
    argv = sys.argv[sys.argv.index("--") + 1 :]
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    engine = start(argv, log, cores)
    write(state, f"{os.getpid()} {engine}")
    code = wait(engine)
    if code is not None:
        write(state.with_name(state.name + ".exit"), str(code))
    end(grace_s)
    if code is None:
        remove_state(state)


if __name__ == "__main__":
    main()
