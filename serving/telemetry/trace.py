"""Metered time series: counters, and power of devices. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.telemetry.base import Boundary, Device, PowerKind, Reading

Floats = NDArray[np.float64]
COLUMNS = (
    "energy_j",
    "power_w",
    "limit_w",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "temperature_c",
    "memory_bytes",
    "throttle",
)


@dataclass(frozen=True, slots=True, eq=False)
class CounterTrace:
    """Counters that only increase: `at_ns` (n,) of the monotonic clock, rising; `values` (n, names).

    Counters have an arbitrary origin. `source`: what was read.
    """

    at_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    source: str

    def covers(self, begin_ns: int, end_ns: int) -> bool:
        """Whether both moments lie between samples."""
        return len(self.at_ns) > 1 and bool(self.at_ns[0] <= begin_ns < end_ns <= self.at_ns[-1])

    def increase(self, begin_ns: int, end_ns: int) -> dict[str, float]:
        """Of each counter between two moments, interpolated between samples.

        Raises ValueError where the samples do not cover the window.
        """
        if not self.covers(begin_ns, end_ns):
            raise ValueError("the trace does not cover the window")
        ends = [np.interp([begin_ns, end_ns], self.at_ns, column) for column in self.values.T]
        return {name: float(at[1] - at[0]) for name, at in zip(self.names, ends, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTrace:
    """One device: `at_ns` (n,) rising; `columns` name → (n,), NaN where it was not reported.

    `faults`, `foreign`: (moment, text); `foreign` has every check, with empty text where none was found.
    """

    device: Device
    at_ns: NDArray[np.int64]
    columns: dict[str, Floats]
    foreign: tuple[tuple[int, str], ...] = ()
    faults: tuple[tuple[int, str], ...] = ()

    def reported(self, column: str) -> tuple[NDArray[np.int64], Floats]:
        """The moments with a value of this column, and the values."""
        values = self.columns[column]
        known = ~np.isnan(values)
        return self.at_ns[known], values[known]

    def inside(self, column: str, begin_ns: int, end_ns: int) -> Floats:
        """The values from `begin_ns` to `end_ns`."""
        at_ns, values = self.reported(column)
        return values[(at_ns >= begin_ns) & (at_ns <= end_ns)]


@dataclass(frozen=True, slots=True, eq=False)
class PowerTrace:
    """All devices of one source. `absent_because`: why there are none, or why readings stopped."""

    source: str
    power_kind: PowerKind
    gap_s: float
    devices: tuple[DeviceTrace, ...] = ()
    absent_because: str = ""
    boundaries: frozenset[Boundary] = field(default_factory=frozenset)

    def of(self, boundary: Boundary) -> tuple[DeviceTrace, ...]:
        """The devices inside a boundary."""
        return tuple(each for each in self.devices if each.device.boundary == boundary)


def device_trace(device: Device, readings: Iterable[Reading]) -> DeviceTrace:
    """The readings of one device as columns; the first of several at one moment."""
    kept: dict[int, Reading] = {}
    for reading in readings:
        if reading.device == device.name:
            kept.setdefault(reading.at_ns, reading)
    ordered = [kept[at_ns] for at_ns in sorted(kept)]
    return DeviceTrace(
        device,
        np.array([each.at_ns for each in ordered], np.int64),
        {name: _column(ordered, name) for name in COLUMNS},
        tuple((each.at_ns, each.foreign) for each in ordered if each.foreign is not None),
        tuple((each.at_ns, each.fault) for each in ordered if each.fault),
    )


def energy_counter_trace(device: Device, at_ns: NDArray[np.int64], energy_j: Floats) -> DeviceTrace:
    """A trace that has an energy counter alone."""
    unknown = np.full(len(at_ns), np.nan)
    return DeviceTrace(device, at_ns, {**dict.fromkeys(COLUMNS, unknown), "energy_j": energy_j})


def _column(readings: Sequence[Reading], name: str) -> Floats:
    values = (getattr(each, name) for each in readings)
    return np.array([np.nan if value is None else value for value in values], float)
