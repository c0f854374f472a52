"""What an emulated engine reports over HTTP: joules of its devices, and steps that were late."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serving import probe
from serving.telemetry.base import Device, PowerKind, Reading, SourceError
from serving.telemetry.meter import Read, Sample

STEPS, LATE = "steps", "late"
EVERY_S = 0.5
GAP_S = 10.0  # counters are exact whenever they are read, and never reset


class TwinSource:
    """Use `opened`. Watts are those of the step that is running, not a mean."""

    kind = "twin"
    power_kind: PowerKind = "modelled"
    every_s, gap_s = EVERY_S, GAP_S

    def __init__(self, base_url: str, names: Sequence[str], api_key: str | None = None) -> None:
        self._url, self._api_key = base_url, api_key
        self.devices = tuple(Device(name, "gpu") for name in names)

    def read(self) -> list[Reading]:
        """One reading per device, at the moment in the response. Raises SourceError."""
        data = _power(self._url, self._api_key)
        at_ns = round(data["t_s"] * 1e9)
        return [
            Reading(at_ns, str(each["uuid"]), each["energy_j"], each["power_w"], each["limit_w"])
            for each in data["devices"]
        ]


@contextmanager
def opened(base_url: str, api_key: str | None = None) -> Iterator[TwinSource]:
    """Raises SourceError."""
    devices = _power(base_url, api_key)["devices"]
    yield TwinSource(base_url, [str(each["uuid"]) for each in devices], api_key)


def _power(base_url: str, api_key: str | None) -> dict[str, Any]:
    data = probe.get_json(f"{base_url}/twin/power", api_key)
    if not isinstance(data, dict):
        raise SourceError(f"the twin at {base_url} does not report its power")
    return data


def lateness_reader(base_url: str, api_key: str | None = None) -> Read:
    """Counts `STEPS`, and those that were `LATE`: by more than a tenth of their length and more than 1 ms."""

    def read() -> Sample | None:
        data = probe.get_json(f"{base_url}/twin/lag", api_key)
        if not isinstance(data, dict):
            return None
        steps = float(data["steps"])
        return Sample(time.monotonic_ns(), {STEPS: steps, LATE: steps * float(data["late_share"])})

    return read
