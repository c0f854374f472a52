"""Watts of a whole machine, from its management controller over IPMI (DCMI)."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from serving.process.environ import inherited
from serving.telemetry.base import Device, PowerKind, Reading, SourceError

EVERY_S, GAP_S, TIMEOUT_S = 1.0, 10.0, 5.0
COMMAND = ("ipmitool", "dcmi", "power", "reading")
NODE = Device("node", "node")
# From which ipmitool reads them with -E and -K, and freeipmi's ipmi-dcmi does not.
CREDENTIALS = (
    *("IPMI_PASSWORD", "IPMITOOL_PASSWORD", "IPMI_KGKEY", "IPMITOOL_KGKEY"),
    *("IPMI_*", "IPMITOOL_*"),
)
INSTANTANEOUS = re.compile(r"Instantaneous power reading:\s*([0-9.]+)\s*Watts")


class IpmiSource:
    """Runs a command per reading. Use `opened`."""

    kind = "ipmi"
    power_kind: PowerKind = "average"
    every_s, gap_s = EVERY_S, GAP_S
    devices: tuple[Device, ...] = (NODE,)

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    def read(self) -> list[Reading]:
        """One reading of the node, at the middle of the command's run. Raises SourceError."""
        began_ns, line = time.monotonic_ns(), " ".join(self._command)
        try:
            outcome = subprocess.run(
                self._command,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                env=inherited(os.environ, CREDENTIALS),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError(f"IPMI: {line}: {error}") from error
        at_ns = (began_ns + time.monotonic_ns()) // 2
        found = INSTANTANEOUS.search(outcome.stdout)
        if outcome.returncode or found is None:
            lines = (outcome.stderr or outcome.stdout).strip().splitlines()
            why = lines[-1] if lines else f"exit code {outcome.returncode}"
            raise SourceError(f"IPMI: {line}: {why} (it needs root and /dev/ipmi0)")
        return [Reading(at_ns, NODE.name, power_w=float(found[1]))]


@contextmanager
def opened(command: Sequence[str] = COMMAND) -> Iterator[IpmiSource]:
    """Raises SourceError if the command prints no watts."""
    source = IpmiSource(command)
    source.read()
    yield source
