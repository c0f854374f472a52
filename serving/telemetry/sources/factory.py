"""Opens a power source by its configuration."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from serving.telemetry.base import Boundary, PowerSource, Role
from serving.telemetry.meter import Recorder, power_metered
from serving.telemetry.sources import ipmi, nvml_power, rapl, recorded, redfish, twin
from serving.telemetry.sources.config import Recorded, Source


@dataclass(frozen=True, slots=True)
class Place:
    """What a source may need to know of the trial.

    `gpus`: as CUDA_VISIBLE_DEVICES names them; `roles`: one for each, or none. `roots`: the pids above all
    processes of the engines.
    """

    gpus: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    base_url: str = ""
    api_key: str | None = field(default=None, repr=False)
    roots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of source meters, and how it is opened; opening raises SourceError."""

    boundaries: frozenset[Boundary]
    opened: Callable[[Any, Place], AbstractContextManager[PowerSource]] = field(repr=False)


KINDS: Mapping[str, Kind] = {
    "nvml": Kind(
        frozenset({"gpu"}), lambda _, place: nvml_power.opened(place.gpus, place.roles, place.roots)
    ),
    "twin": Kind(frozenset({"gpu"}), lambda _, place: twin.opened(place.base_url, place.api_key)),
    "rapl": Kind(frozenset({"cpu", "dram"}), lambda _, place: rapl.opened()),
    "redfish": Kind(
        frozenset({"node"}),
        lambda source, _: redfish.opened(source.url, verify=source.verify, ca_file=source.ca_file),
    ),
    "ipmi": Kind(frozenset({"node"}), lambda source, _: ipmi.opened(source.command)),
    "recorded": Kind(frozenset(), lambda source, _: recorded.opened(source.path)),
}


def boundaries_of(source: Source) -> frozenset[Boundary]:
    """What the source meters."""
    if isinstance(source, Recorded):
        return frozenset({source.boundary})
    return KINDS[source.kind].boundaries


def metered_source(source: Source, place: Place) -> AbstractContextManager[Recorder]:
    """One source for the length of a with block, sampled on a thread of its own."""
    opened = KINDS[source.kind].opened(source, place)
    return power_metered(source.kind, boundaries_of(source), opened)
