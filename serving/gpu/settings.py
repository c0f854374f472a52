"""GPUs' power limits and clocks for the length of a with block: always set back, even after `kill -9`."""

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
    """Nothing is touched, and nothing started, where nothing is asked for.

    Raises PowerCapDenied, with every GPU as it was, also where its keeper was made to end before the block
    did; PowerCapLeft, if one could not be set back.
    """
    if not devices or (limit_w is None and sm_clock_mhz is None):
        yield
        return
    wish = {"devices": list(devices), "limit_w": limit_w, "sm_clock_mhz": sm_clock_mhz}
    theirs, ours = os.pipe()
    answers, to_us = os.pipe()
    with os.fdopen(ours, "wb") as lifeline, os.fdopen(answers, "rb") as told:
        try:
            subprocess.run(
                [sys.executable, "-m", "serving.gpu.keeper", json.dumps(wish)],
                stdin=theirs,
                stdout=to_us,
                stderr=subprocess.DEVNULL,
                env=inherited(os.environ),
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise PowerCapDenied(f"could not start the keeper of GPU settings: {error}") from error
        finally:
            os.close(theirs)
            os.close(to_us)
        first = _line(told)
        if "set" not in first:
            raise PowerCapDenied(first.get("denied") or first.get("left") or "the keeper died")
        try:
            yield
        finally:
            early = bool(select.select([told], [], [], 0)[0])
            lifeline.close()
            last = _line(told)
            if "restored" not in last:
                why = last.get("left", "its keeper died")
                raise PowerCapLeft(_left(devices, first["set"], sm_clock_mhz, why))
            if early:
                raise PowerCapDenied(
                    "the keeper of GPU settings was ended: they did not hold to the end"
                )


def _line(told: BinaryIO) -> dict[str, Any]:
    """The next answer; empty if there is none, in time or at all."""
    deadline, line = time.monotonic() + ANSWER_S, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([told], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(told.fileno(), 1) if ready else b""
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
    return f"GPU settings are not set back ({why}); by hand: {'; '.join(by_hand)}"
