"""Watts of a whole machine, as its management controller tells them over IPMI's DCMI."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from serving.telemetry.base import Device, PowerKind, Reading, SourceError

EVERY_S, GAP_S, TIMEOUT_S = 1.0, 10.0, 5.0
COMMAND = ("ipmitool", "dcmi", "power", "reading")
NODE = Device("node", "node")
INSTANTANEOUS = re.compile(r"Instantaneous power reading:\s*([0-9.]+)\s*Watts")


class IpmiSource:
    """Use `opened`."""

    kind = "ipmi"
    power_kind: PowerKind = "average"
    every_s, gap_s = EVERY_S, GAP_S
    devices: tuple[Device, ...] = (NODE,)

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    def read(self) -> list[Reading]:
        asked_ns, line = time.monotonic_ns(), " ".join(self._command)
        try:
            outcome = subprocess.run(
                self._command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError(f"IPMI: {line}: {error}") from error
        at_ns = (asked_ns + time.monotonic_ns()) // 2
        found = INSTANTANEOUS.search(outcome.stdout)
        if outcome.returncode or found is None:
            said = (outcome.stderr or outcome.stdout).strip().splitlines()
            why = said[-1] if said else f"exit code {outcome.returncode}"
            raise SourceError(f"IPMI: {line}: {why} (it takes root and /dev/ipmi0)")
        return [Reading(at_ns, NODE.name, power_w=float(found[1]))]


@contextmanager
def opened(command: Sequence[str] = COMMAND) -> Iterator[IpmiSource]:
    """Raises SourceError if the command gives no watts."""
    source = IpmiSource(command)
    source.read()
    yield source
