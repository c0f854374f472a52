"""What all sources of power have in common: devices, readings, and how they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# What is inside: the GPU's board, the processors, their memory, all of one machine at its supply.
Boundary = Literal["gpu", "cpu", "dram", "node"]
PowerKind = Literal["instant", "average", "modelled"]
Role = Literal["", "prefill", "decode"]

# Bits of `nvmlClocksEventReasons` (nvml.h).
SW_POWER_CAP = 0x4
HARDWARE_SLOWDOWNS = {
    0x8: "hardware slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


class SourceError(Exception):
    """A source can't be read. One line: which, why, and what would help."""


@dataclass(frozen=True, slots=True)
class Device:
    name: str  # "GPU-…", "package-0", "node"
    boundary: Boundary
    role: Role = ""  # of a GPU that works for one of two pools


@dataclass(frozen=True, slots=True)
class Reading:
    """One device at one moment of this machine's monotonic clock. None: it does not tell that.

    `energy_j`: a counter since some beginning. `throttle`: NVML's bits. `foreign`: processes on it that are
    none of the trial's; empty where there were none. `fault`: why energy or power is not told.
    """

    at_ns: int
    device: str
    energy_j: float | None = None
    power_w: float | None = None
    limit_w: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    memory_bytes: float | None = None
    throttle: float | None = None
    foreign: str | None = None
    fault: str = ""


class PowerSource(Protocol):
    """`every_s`: between readings. `gap_s`: without one for longer, nobody knows what happened.

    `read` raises SourceError; a device that is lost is a reading with a fault.
    """

    kind: str
    power_kind: PowerKind
    devices: tuple[Device, ...]
    every_s: float
    gap_s: float

    def read(self) -> Sequence[Reading]: ...
