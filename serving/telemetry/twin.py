"""What an emulated engine counts itself, and tells over HTTP: joules of its devices, steps that came late."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serving import probe
from serving.telemetry.base import Device, PowerKind, Reading, SourceError
from serving.telemetry.meter import Read, Sample

STEPS, LATE = "steps", "late"
EVERY_S = 0.5
GAP_S = 10.0  # its counters are exact whenever they are read, and are never reset


class TwinSource:
    """Use `opened`. Its watts are those of the step that just runs: no samples of a mean."""

    kind = "twin"
    power_kind: PowerKind = "modelled"
    every_s, gap_s = EVERY_S, GAP_S

    def __init__(self, base_url: str, names: Sequence[str]) -> None:
        self._url = base_url
        self.devices = tuple(Device(name, "gpu") for name in names)

    def read(self) -> list[Reading]:
        """Its answer carries the moment of this machine's monotonic clock that it holds for."""
        told = _ask(self._url)
        at_ns = round(told["t_s"] * 1e9)
        return [
            Reading(at_ns, str(each["uuid"]), each["energy_j"], each["power_w"], each["limit_w"])
            for each in told["devices"]
        ]


@contextmanager
def opened(base_url: str) -> Iterator[TwinSource]:
    """Raises SourceError."""
    yield TwinSource(base_url, [str(each["uuid"]) for each in _ask(base_url)["devices"]])


def _ask(base_url: str) -> dict[str, Any]:
    told = probe.get_json(f"{base_url}/twin/power")
    if not isinstance(told, dict):
        raise SourceError(f"the twin at {base_url} does not tell its power")
    return told


def lateness_reader(base_url: str) -> Read:
    """`STEPS` that it has given out, and of them those `LATE`: by a tenth of their length, and 1 ms."""

    def read() -> Sample | None:
        told = probe.get_json(f"{base_url}/twin/lag")
        if not isinstance(told, dict):
            return None
        steps = float(told["steps"])
        return Sample(time.monotonic_ns(), {STEPS: steps, LATE: steps * float(told["late_share"])})

    return read
