"""Joules of processor packages and their memory, from Linux powercap (RAPL)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.telemetry.base import Boundary, Device, PowerKind, Reading, SourceError

ROOT = Path("/sys/class/powercap")
EVERY_S, GAP_S = 0.5, 5.0
MICRO = 1e-6


@dataclass(slots=True)
class _Zone:
    """A counter that wraps around after `range_uj`: in minutes, so at most once between two readings."""

    device: Device
    path: Path
    range_uj: int
    last_uj: int = 0
    wraps: int = 0

    def read_uj(self) -> int:
        now_uj = int((self.path / "energy_uj").read_text())
        self.wraps += now_uj < self.last_uj
        self.last_uj = now_uj
        return now_uj + self.wraps * (self.range_uj + 1)


class RaplSource:
    """Reads a file per device. Use `opened`."""

    kind = "rapl"
    power_kind: PowerKind = "average"
    every_s, gap_s = EVERY_S, GAP_S

    def __init__(self, zones: list[_Zone]) -> None:
        self._zones = zones
        self.devices = tuple(zone.device for zone in zones)

    def read(self) -> list[Reading]:
        """One reading per package and memory; a counter that can't be read is a fault."""
        return [self._reading(zone) for zone in self._zones]

    def _reading(self, zone: _Zone) -> Reading:
        try:
            joules = zone.read_uj() * MICRO
        except (OSError, ValueError) as error:
            return Reading(time.monotonic_ns(), zone.device.name, fault=str(error))
        return Reading(time.monotonic_ns(), zone.device.name, joules)


@contextmanager
def opened(root: Path = ROOT) -> Iterator[RaplSource]:
    """Processor packages and their memory. Raises SourceError if there are none that can be read."""
    zones: list[_Zone] = []
    for path in sorted(root.glob("intel-rapl:*")):
        try:
            zone = _zone(path)
            if zone is not None:
                zone.read_uj()
                zones.append(zone)
        except PermissionError as error:
            raise SourceError(
                f"RAPL: only root may read {error.filename}: `chmod a+r` it on this node"
            ) from error
        except (OSError, ValueError) as error:
            raise SourceError(f"RAPL: {path}: {error}") from error
    if not zones:
        raise SourceError(f"RAPL: this machine has no processor packages in {root}")
    yield RaplSource(zones)


def _zone(path: Path) -> _Zone | None:
    """None for parts of a package (core, uncore) and for the platform (psys): they would count twice."""
    name = (path / "name").read_text().strip()
    boundary: Boundary | None = None
    if name.startswith("package"):
        boundary = "cpu"
    elif name == "dram":
        boundary = "dram"
        name = f"dram-{path.name.split(':')[1]}"
    if boundary is None:
        return None
    return _Zone(Device(name, boundary), path, int((path / "max_energy_range_uj").read_text()))
