"""Runs a command so that no process of it outlives its owner. A script: standard library only.

    python -S -E supervise.py STATE LOG GRACE_S CORES AFTER -- ARGV…

Standard input is a pipe that the owner holds open.

Forks twice, so that it is not a child of the owner: Ray kills the direct children of a worker that
exits, and the supervisor must survive that. As a subreaper it inherits every orphan of the tree,
however it daemonised. When the pipe closes (the owner closed it, or is dead by any signal), on
SIGTERM, or when the command exits, the whole tree gets SIGTERM, and after GRACE_S seconds SIGKILL.

Its parent is a guard, a subreaper too: it inherits the tree of a supervisor that was killed, and ends
it; it ends the tree of one that stands still after the pipe has closed. STATE holds `SUPERVISOR ENGINE
GUARD` (pids), and STATE.exit the exit code; once the pipe is closed nobody reads them, and the guard
removes them with their folder.

AFTER is a command, a word a line, or empty: it ends what the command leaves outside of its tree. It runs when
the tree has ended, before STATE.exit is written; the guard runs it too.

Shared memory in /dev/shm outlives processes that are killed: what the tree had mapped, and nobody else has,
is removed with it. The tree is looked at ever more rarely, so that it is not disturbed.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILL_S, POLL_S = 30.0, 0.02
LOOK_S, RARELY_S = 1.0, 60.0  # between looks at what is mapped, at first and later
SHARED_MEMORY = "/dev/shm/"
SLOW_S = 3.0  # beyond the grace, after which a supervisor counts as standing still
AFTER_S = 60.0  # for AFTER


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


def mapped(pids: list[int]) -> set[str]:
    """The files in shared memory that any of these processes has mapped."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
                at = line.find(SHARED_MEMORY)
                if at >= 0 and not line.endswith(" (deleted)"):
                    found.add(line[at:])
    return found


def remove_shared_memory(held: set[str]) -> None:
    """Removes what no living process has mapped."""
    left = {path for path in held if Path(path).exists()}
    if left:
        others = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
        for path in left - mapped(others):
            with contextlib.suppress(OSError):
                Path(path).unlink()


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
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
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


def wait(engine: int, held: set[str]) -> int | None:
    """Waits until the owner closes the pipe (None) or the engine exits (its code, negative for a signal).

    `held` gets the shared memory of the tree.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exited, look_s = os.pidfd_open(engine), LOOK_S
    while True:
        ready, _, _ = select.select([0, woken, exited], [], [], look_s)
        if not ready:
            held |= mapped(descendants(os.getpid()))
            look_s = min(2 * look_s, RARELY_S)
            continue
        if exited in ready:
            _, status = os.waitpid(engine, 0)
            return os.waitstatus_to_exitcode(status)
        if woken in ready or not os.read(0, 4096):
            return None


def reap() -> None:
    """Collects children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end(grace_s: float, held: set[str], client: int | None = None) -> None:
    """SIGTERM to the whole tree, and after `grace_s` SIGKILL to what is left of it; then its shared memory.

    `client`: the process that passes SIGTERM on to the others, and alone gets it.
    """
    held |= mapped(descendants(os.getpid()))
    stop(grace_s, client)
    remove_shared_memory(held)


def stop(grace_s: float, client: int | None) -> None:
    """Returns when no process of the tree is left, or none of them ends."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        deadline = time.monotonic() + patience_s
        signalled: set[int] = set()
        while True:
            reap()
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                if number == signal.SIGTERM and client not in (None, pid):
                    continue
                if pid not in signalled or number == signal.SIGKILL:
                    signalled.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)


def remove_state(state: Path) -> None:
    """Removes the state files and their folder, in case the owner is dead and can't."""
    with contextlib.suppress(OSError):
        state.unlink(missing_ok=True)
        state.with_name(state.name + ".exit").unlink(missing_ok=True)
        state.parent.rmdir()


def run_after(after: list[str]) -> None:
    """Runs AFTER to its end, or until AFTER_S."""
    if after:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            null = subprocess.DEVNULL
            subprocess.run(
                after, stdin=null, stdout=null, stderr=null, timeout=AFTER_S, check=False
            )


def supervise(
    argv: list[str], state: Path, log: Path, grace_s: float, cores: str, after: list[str]
) -> None:
    """Starts the command, waits, and ends its tree."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getppid()
    engine = start(argv, log, cores)
    write(state, f"{os.getpid()} {engine} {guard}")
    held: set[str] = set()
    code = wait(engine, held)
    if code is not None:
        run_after(after)
        write(state.with_name(state.name + ".exit"), str(code))
    end(grace_s, held, engine if after and code is None else None)
    if code is None:
        run_after(after)
    if os.getppid() == guard:  # it may stand still
        os.kill(guard, signal.SIGCONT)


def killed(child: int) -> bool:
    """Whether a child did not come to its end by itself: it may stand still."""
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(child, os.WNOHANG)
        return pid == 0 or os.WIFSIGNALED(status)
    return True


def guard(supervisor: int, state: Path, grace_s: float, after: list[str]) -> None:
    """Waits for the end of the supervisor, and ends what it leaves; and waits for the end of the owner."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    exited = os.pidfd_open(supervisor)
    deadline = float("inf")
    while (rest_s := deadline - time.monotonic()) > 0:
        wanted = [exited] if deadline < float("inf") else [exited, 0]
        ready, _, _ = select.select(wanted, [], [], min(rest_s, 3600.0))
        if exited in ready:
            break
        if 0 in ready and not os.read(0, 4096):
            os.kill(supervisor, signal.SIGCONT)
            deadline = time.monotonic() + grace_s + SLOW_S + (AFTER_S if after else 0.0)
    lost = killed(supervisor)
    end(grace_s if deadline == float("inf") else 0.0, set())
    if lost:
        run_after(after)
    while os.read(0, 4096):
        pass
    remove_state(state)


def main() -> None:
    """Detaches, and becomes the guard; its child becomes the supervisor."""
    state, log = Path(sys.argv[1]), Path(sys.argv[2])
    grace_s, cores, after = float(sys.argv[3]), sys.argv[4], sys.argv[5].splitlines()
    argv = sys.argv[sys.argv.index("--") + 1 :]
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.fork()
    if supervisor:
        guard(supervisor, state, grace_s, after)
    else:
        supervise(argv, state, log, grace_s, cores, after)


if __name__ == "__main__":
    main()
