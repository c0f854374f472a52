"""The model of a death: which line of a log names a cause, and what to change. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from serving.errors import (
    BadFlags,
    ContainerFailed,
    CudaFailed,
    DiskFull,
    DriverMismatch,
    EngineExited,
    EngineHung,
    EnvironmentBroken,
    FabricFailed,
    GpuFailed,
    GpuOccupied,
    HostOutOfMemory,
    KvCacheTooSmall,
    LaunchError,
    ModelGated,
    OutOfMemory,
    PeerLost,
    Phase,
    PortTaken,
    ServingError,
    SharedMemoryExhausted,
    Unsupported,
    WeightsMissing,
)

# Causes, the stronger first: where a log has lines of several, the others follow from it, or were survived: an
# engine that ran out of GPU memory had its port, its weights and the right to them.
STRENGTH: tuple[type[ServingError], ...] = (
    GpuFailed,
    DriverMismatch,
    ContainerFailed,
    SharedMemoryExhausted,
    GpuOccupied,
    HostOutOfMemory,
    Unsupported,
    KvCacheTooSmall,
    OutOfMemory,
    CudaFailed,
    DiskFull,
    ModelGated,
    WeightsMissing,
    BadFlags,
    PortTaken,
    EnvironmentBroken,
    LaunchError,
    PeerLost,
    FabricFailed,
    EngineHung,
    EngineExited,
)
Counts = Literal["anywhere", "at the end", "alone"]


@dataclass(frozen=True, slots=True)
class Death:
    """A line of a log that names a cause. `remedy`: one sentence on what to change.

    `source`: what prints the line; `version`: in which it was read there. `phase`: where the line itself says
    it; empty: what was logged last decides. `counts`: "at the end": only as the end of the last traceback;
    "alone": only in a log without a traceback. `above`: a pattern that a line of its traceback matches.
    `below`: lines after it that belong to the evidence.
    """

    pattern: str
    error: type[ServingError]
    remedy: str
    source: str
    version: str
    phase: Phase = ""
    counts: Counts = "anywhere"
    above: str = ""
    below: int = 0


@dataclass(frozen=True, slots=True)
class DeathTable:
    """The deaths of an engine, tried before those of all engines.

    `phases`: pattern of a line → the phase that it begins. `remedies`: cause → phase → the remedy for lines
    of libraries, which do not know the engine's knobs; the empty phase: any other.
    """

    deaths: tuple[Death, ...] = ()
    phases: tuple[tuple[str, Phase], ...] = ()
    remedies: Mapping[type[ServingError], Mapping[Phase, str]] = field(default_factory=dict)

    def remedy(self, death: Death, phase: Phase) -> str:
        """What to change: by the death itself if it is this engine's."""
        known = {} if death in self.deaths else self.remedies.get(death.error, {})
        return known.get(phase) or known.get("") or death.remedy


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled once."""
    return re.compile(pattern)


def strength(death: Death) -> int:
    """The place of its cause in `STRENGTH`; smaller is stronger."""
    return STRENGTH.index(death.error) if death.error in STRENGTH else len(STRENGTH)
