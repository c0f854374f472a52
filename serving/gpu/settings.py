"""GPUs' power limits and clocks for the length of a with block: restored even after `kill -9`."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from serving.errors import PowerCapDenied, PowerCapLeft, PowerCapLost
from serving.gpu.keeper import LOCK_S
from serving.gpu.record import recorded
from serving.process.environ import ACCELERATED, PYTHON, inherited
from serving.process.generation import pid_of
from serving.process.reap import alive

ANSWER_S = LOCK_S + 30.0


@contextmanager
def gpus_set(
    devices: Sequence[str], limit_w: float | None, sm_clock_mhz: int | None
) -> Iterator[None]:
    """Sets `limit_w` and `sm_clock_mhz` on each of `devices`; None leaves it alone.

    What the keeper of an earlier trial left, because it was killed, is restored first. Where there is neither,
    no process is started and no library loaded. Raises PowerCapDenied, with every GPU as it was; PowerCapLost
    if the settings did not hold until the end of the block; PowerCapLeft if a GPU could not be restored.
    """
    if not devices or (limit_w is None and sm_clock_mhz is None and not recorded()):
        yield
        return
    with _keeper(devices, limit_w, sm_clock_mhz) as keeper:
        try:
            yield
        finally:
            keeper.lifeline.close()
            last = _line(keeper.answers)
            if "restored" not in last:
                why = last.get("left", "its keeper died")
                _kill(keeper.generation)
                if not _restored(devices):
                    raise PowerCapLeft(_left(devices, keeper.before_w, sm_clock_mhz, why))
            if "restored" not in last or last["early"]:
                raise PowerCapLost(
                    "the keeper of GPU settings was ended: the settings did not hold until the end"
                )


@dataclass(frozen=True, slots=True)
class _Keeper:
    """A keeper that has set the GPUs. `before_w`: GPU → its power limit before."""

    generation: str
    before_w: dict[str, float]
    lifeline: BinaryIO
    answers: BinaryIO


@contextmanager
def _keeper(
    devices: Sequence[str], limit_w: float | None, sm_clock_mhz: int | None
) -> Iterator[_Keeper]:
    settings = {"devices": list(devices), "limit_w": limit_w, "sm_clock_mhz": sm_clock_mhz}
    stdin, write_end = os.pipe()
    read_end, stdout = os.pipe()
    with os.fdopen(write_end, "wb") as lifeline, os.fdopen(read_end, "rb") as answers:
        try:
            subprocess.run(
                [sys.executable, "-m", "serving.gpu.keeper", json.dumps(settings)],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                env=inherited(os.environ, ACCELERATED, PYTHON),
                check=True,
                timeout=ANSWER_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PowerCapDenied(f"could not start the keeper of GPU settings: {error}") from error
        finally:
            os.close(stdin)
            os.close(stdout)
        generation = str(_line(answers).get("keeper", ""))
        first = _line(answers)
        if "set" not in first:
            _kill(generation)
            raise PowerCapDenied(first.get("denied") or first.get("left") or "the keeper died")
        yield _Keeper(generation, first["set"], lifeline, answers)


def _restored(devices: Sequence[str]) -> bool:
    """Restores what a keeper that was killed has left, by its record. Whether that succeeded."""
    try:
        with _keeper(devices, None, None):
            return True
    except PowerCapDenied:
        return False


def _kill(generation: str) -> None:
    """Ends a keeper that does not answer: while it holds the GPUs, none can restore them."""
    if generation and alive(generation):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid_of(generation), signal.SIGKILL)


def _line(answers: BinaryIO) -> dict[str, Any]:
    """The next answer; empty if there is none within ANSWER_S."""
    deadline, line = time.monotonic() + ANSWER_S, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([answers], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(answers.fileno(), 1) if ready else b""
        if not part:
            return {}
        line += part
    answer: dict[str, Any] = json.loads(line)
    return answer


def _left(
    devices: Sequence[str], before_w: dict[str, float], sm_clock_mhz: int | None, why: str
) -> str:
    by_hand = [f"nvidia-smi -i {name} -pl {watts:g}" for name, watts in before_w.items()]
    if sm_clock_mhz is not None:
        by_hand += [f"nvidia-smi -i {name} -rgc" for name in before_w or devices]
    return f"GPU settings are not restored ({why}); by hand: {'; '.join(by_hand)}"
