"""A supervised process, as its owner sees it."""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.errors import LaunchError
from serving.process import supervise

SPAWN_TIMEOUT_S = 30.0
POLL_S = 0.01


# These belong to our own Python, or to Ray, which gives every worker OMP_NUM_THREADS=1: an engine must start
# as it would from the command line that is shown for it.
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Supervised:
    """A running engine. `supervisor`, `engine`: pids of the supervisor and of the engine's first process.

    `generation`: identifies this start. `state`: the supervisor's file.
    """

    supervisor: int
    engine: int
    generation: str
    state: Path

    def alive(self) -> bool:
        """Whether the engine's first process still runs: same pid, same start time, no zombie."""
        return generation(self.engine) == self.generation

    def exit_code(self) -> int | None:
        """Of the engine, negative for a signal; None while it runs, or if the supervisor was killed."""
        path = self.state.with_name(self.state.name + ".exit")
        return int(path.read_text()) if path.exists() else None

    def tree(self) -> list[int]:
        """Pids of all processes of the engine."""
        return supervise.descendants(self.supervisor)


def generation(pid: int) -> str | None:
    """`PID-STARTTIME`, unique since boot; None if the process is dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{pid}-{fields[19]}"


def parent(pid: int) -> int | None:
    """The parent's pid: of an engine's first process, its supervisor. None if the process is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def generations(pids: Iterable[int]) -> frozenset[str]:
    """The generations of those that are alive."""
    return frozenset(filter(None, map(generation, pids)))


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that engines inherit."""
    return {
        key: value
        for key, value in environ.items()
        if key not in NOT_INHERITED and not key.startswith("RAY_")
    }


@contextmanager
def supervised(
    argv: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    *,
    grace_s: float = 5.0,
    cores: Sequence[int] = (),
) -> Iterator[Supervised]:
    """Runs `argv` for the length of a with block; no process of its tree is left after it.

    `environ` overrides what it inherits; `cores`: it is pinned to these, if any. Raises LaunchError.
    """
    with tempfile.TemporaryDirectory(prefix="wattfront-engine-") as folder:
        state = Path(folder) / "state"
        read_end, write_end = os.pipe()
        with contextlib.ExitStack() as stack:
            lifeline = stack.enter_context(os.fdopen(write_end, "wb"))
            command = [sys.executable, "-S", "-E", str(Path(supervise.__file__))]
            arguments = [str(state), str(log), str(grace_s), ",".join(map(str, cores)), "--", *argv]
            try:
                # Not our standard output: its reader would wait for the supervisor too.
                subprocess.run(
                    [*command, *arguments],
                    stdin=read_end,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**inherited(os.environ), **environ},
                    check=True,
                )
            except (OSError, subprocess.CalledProcessError) as error:
                raise LaunchError(f"could not start the supervisor: {error}") from error
            finally:
                os.close(read_end)
            process = _read_state(state)
            try:
                yield process
            finally:
                lifeline.close()
                _join(process.supervisor, grace_s + supervise.KILL_S)


def _join(pid: int, timeout_s: float) -> None:
    """Waits for the end of a process that is not our child."""
    try:
        exited = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([exited], [], [], timeout_s)
    finally:
        os.close(exited)


def _read_state(state: Path) -> Supervised:
    deadline = time.monotonic() + SPAWN_TIMEOUT_S
    while not state.exists():
        if time.monotonic() > deadline:
            raise LaunchError("the supervisor did not report within 30 s")
        time.sleep(POLL_S)
    supervisor, engine = map(int, state.read_text().split())
    return Supervised(supervisor, engine, generation(engine) or f"{engine}-gone", state)
