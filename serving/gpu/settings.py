"""GPUs' power limits and clocks for the length of a with block: restored even after `kill -9`."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from serving.errors import PowerCapDenied, PowerCapLeft
from serving.gpu.keeper import LOCK_S
from serving.process.process import inherited

ANSWER_S = LOCK_S + 30.0


@contextmanager
def gpus_set(
    devices: Sequence[str], limit_w: float | None, sm_clock_mhz: int | None
) -> Iterator[None]:
    """Sets `limit_w` and `sm_clock_mhz` on each of `devices`; None leaves it alone.

    Where both are None no process is started and no library loaded. Raises PowerCapDenied, with every GPU as it
    was, also if the keeper was ended before the block; PowerCapLeft if a GPU could not be restored.
    """
    if not devices or (limit_w is None and sm_clock_mhz is None):
        yield
        return
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
                env=inherited(os.environ),
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise PowerCapDenied(f"could not start the keeper of GPU settings: {error}") from error
        finally:
            os.close(stdin)
            os.close(stdout)
        first = _line(answers)
        if "set" not in first:
            raise PowerCapDenied(first.get("denied") or first.get("left") or "the keeper died")
        try:
            yield
        finally:
            early = bool(select.select([answers], [], [], 0)[0])
            lifeline.close()
            last = _line(answers)
            if "restored" not in last:
                why = last.get("left", "its keeper died")
                raise PowerCapLeft(_left(devices, first["set"], sm_clock_mhz, why))
            if early:
                raise PowerCapDenied(
                    "the keeper of GPU settings was ended: the settings did not hold until the end"
                )


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
