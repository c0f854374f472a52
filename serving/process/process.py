"""A supervised process, as its owner sees it."""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from serving.errors import LaunchError
from serving.process import supervise
from serving.process.environ import inherited
from serving.process.generation import generation, generations, pid_of
from serving.process.leftovers import MARK, end, marked, new_mark

SPAWN_TIMEOUT_S = 30.0
PATIENCE_S = 6.0  # beyond the grace, for the guard to end a tree whose supervisor stands still
POLL_S = 0.01


def _nowhere() -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Identity:
    """By what the processes of an engine are found, its own and those outside of its tree.

    `mark`: the value of MARK in their environment; empty: a new one. `outside`: the pid of a process that runs
    the engine outside of the tree, where there is one. `after`: the command that ends it.
    """

    mark: str = ""
    outside: Callable[[], int | None] = _nowhere
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Supervised:
    """A running engine. `supervisor`, `guard`, `engine`: pids of its supervisor, of the supervisor's guard, and
    of the engine's first process.

    `generation`: identifies this start. `state`: the supervisor's file. `outside`: as in `Identity`.
    """

    supervisor: int
    engine: int
    generation: str
    state: Path
    guard: int
    started: frozenset[str]  # the generations of supervisor and guard
    outside: Callable[[], int | None] = _nowhere

    def alive(self) -> bool:
        """Whether the engine's first process still runs: same pid, same start time, no zombie."""
        return generation(self.engine) == self.generation

    def exit_code(self) -> int | None:
        """Of the engine, negative for a signal; None while it runs, or if the supervisor was killed."""
        path = self.state.with_name(self.state.name + ".exit")
        return int(path.read_text()) if path.exists() else None

    def supervised(self) -> bool:
        """Whether its supervisor runs."""
        return bool(self.started & generations([self.supervisor]))

    def tree(self) -> list[int]:
        """Pids of all processes of the engine."""
        below, root = supervise.descendants(self.supervisor), self.outside()
        if root is None:
            return below
        return list(dict.fromkeys([*below, root, *supervise.descendants(root)]))


ANONYMOUS = Identity()


@contextmanager
def supervised(
    argv: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    *,
    grace_s: float = 5.0,
    cores: Sequence[int] = (),
    inherits: Iterable[str] = (),
    identity: Identity = ANONYMOUS,
) -> Iterator[Supervised]:
    """Runs `argv` for the length of a with block; no process of its tree is left after it.

    `inherits`: variables of ours that it gets, names or patterns; `environ` overrides them. `cores`: it is
    pinned to these, if any. Raises LaunchError, and at the end EngineLeft if a process does not die.
    """
    mark, after = identity.mark or new_mark(), identity.after
    with tempfile.TemporaryDirectory(prefix="wattfront-engine-") as folder:
        state = Path(folder) / "state"
        read_end, write_end = os.pipe()
        with contextlib.ExitStack() as stack:
            lifeline = stack.enter_context(os.fdopen(write_end, "wb"))
            command = [sys.executable, "-S", "-E", str(Path(supervise.__file__))]
            settings = [str(grace_s), ",".join(map(str, cores)), "\n".join(after)]
            arguments = [str(state), str(log), *settings, "--", *argv]
            try:
                # Not our standard output: its reader would wait for the supervisor too.
                subprocess.run(
                    [*command, *arguments],
                    stdin=read_end,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**inherited(os.environ, inherits), **environ, MARK: mark},
                    check=True,
                    timeout=SPAWN_TIMEOUT_S,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise LaunchError(f"could not start the supervisor: {error}") from error
            finally:
                os.close(read_end)
            try:
                process = replace(_read_state(state), outside=identity.outside)
            except LaunchError:
                end(lambda: marked(mark))
                raise
            try:
                yield process
            finally:
                lifeline.close()
                _end(process, mark, grace_s + (supervise.AFTER_S if after else 0.0))


def _end(process: Supervised, mark: str, grace_s: float) -> None:
    """Waits until nothing of the engine is left; kills what its supervisor does not end. Raises EngineLeft."""
    _join(process.guard, grace_s + PATIENCE_S)

    def left() -> frozenset[str]:
        ours = process.started & generations([process.guard, process.supervisor])
        below = [each for root in ours for each in supervise.descendants(pid_of(root))]
        return ours | generations(below) | marked(mark)

    end(left)


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
    supervisor, engine, guard = map(int, state.read_text().split())
    started = generations([supervisor, guard])
    known = generation(engine) or f"{engine}-gone"
    return Supervised(supervisor, engine, known, state, guard, started)
