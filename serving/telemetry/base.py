"""The interface of power sources: devices, readings, boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# What a reading includes: GPU boards, processor packages, their memory, or a whole machine at its supply.
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
    """A source can't be read. One line: which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a source meters. `role`: of a GPU in a prefill or decode pool."""

    name: str  # "GPU-…", "package-0", "node"
    boundary: Boundary
    role: Role = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One device at one moment of this machine's monotonic clock. None: not reported.

    `energy_j`: a counter with an arbitrary origin. `throttle`: NVML's bits. `foreign`: processes on it that are
    not the trial's; empty if there are none. `fault`: why energy or power is missing.
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
    """A source of readings. `every_s`: interval of readings; `gap_s`: a longer one makes a window invalid."""

    kind: str
    power_kind: PowerKind
    devices: tuple[Device, ...]
    every_s: float
    gap_s: float

    def read(self) -> Sequence[Reading]:
        """New readings. Raises SourceError; a single device that is lost is a reading with a fault."""
