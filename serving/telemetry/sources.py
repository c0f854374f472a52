"""The sources of power there are, each by its kind: how it is configured, and how it is opened."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from serving.telemetry import ipmi, nvml_power, rapl, recorded, redfish, twin
from serving.telemetry.base import Boundary, PowerSource, Role
from serving.telemetry.meter import Recorder, power_metered
from serving.topology import Strict

NonNegative = Annotated[float, Field(ge=0)]


class Nvml(Strict):
    """The trial's own GPUs, by NVIDIA's driver."""

    kind: Literal["nvml"] = "nvml"


class Twin(Strict):
    """Emulated GPUs: takes the place of all other sources where engines are emulated."""

    kind: Literal["twin"] = "twin"


class Rapl(Strict):
    """Processors and memory of the node, where its counters may be read."""

    kind: Literal["rapl"] = "rapl"


class Redfish(Strict):
    """`url`: of the Power or EnvironmentMetrics resource; `{host}` in it is the node's name.

    User and password: WATTFRONT_REDFISH_USER and WATTFRONT_REDFISH_PASSWORD in the node's environment.
    """

    kind: Literal["redfish"]
    url: Annotated[
        str, Field(pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[^/:\[\]]+)(:[0-9]{1,5})?(/.*)?$")
    ]
    verify: bool = True
    ca_file: str | None = None


class Ipmi(Strict):
    kind: Literal["ipmi"]
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ipmi.COMMAND


class Recorded(Strict):
    """A trace played back: it stands for one boundary as if drawn now."""

    kind: Literal["recorded"]
    path: Path
    boundary: Boundary = "gpu"


Source = Annotated[Nvml | Twin | Rapl | Redfish | Ipmi | Recorded, Field(discriminator="kind")]


def _usual() -> dict[str, Source]:
    return {"gpu": Nvml(), "cpu": Rapl()}


class PowerConfig(Strict):
    """What the GPUs of a trial may draw, and how its energy is metered.

    `limit_w`, `sm_clock_mhz`: set on each GPU for the length of the trial; None leaves it alone. `idle_s`:
    how long idle power is metered, before the engine is started and again when it is loaded; 0: not at all.
    """

    limit_w: Annotated[float, Field(gt=0)] | None = None
    sm_clock_mhz: Annotated[int, Field(ge=1)] | None = None
    idle_s: NonNegative = 3.0
    sources: dict[str, Source] = Field(default_factory=_usual)


@dataclass(frozen=True, slots=True)
class Place:
    """What a source may need to know of the trial. `root`: the process above all of its engine's."""

    gpus: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    base_url: str = ""
    root: int | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    boundaries: frozenset[Boundary]
    opened: Callable[[Any, Place], AbstractContextManager[PowerSource]] = field(repr=False)


KINDS: Mapping[str, Kind] = {
    "nvml": Kind(
        frozenset({"gpu"}), lambda _, place: nvml_power.opened(place.gpus, place.roles, place.root)
    ),
    "twin": Kind(frozenset({"gpu"}), lambda _, place: twin.opened(place.base_url)),
    "rapl": Kind(frozenset({"cpu", "dram"}), lambda _, place: rapl.opened()),
    "redfish": Kind(
        frozenset({"node"}),
        lambda source, _: redfish.opened(source.url, verify=source.verify, ca_file=source.ca_file),
    ),
    "ipmi": Kind(frozenset({"node"}), lambda source, _: ipmi.opened(source.command)),
    "recorded": Kind(frozenset(), lambda source, _: recorded.opened(source.path)),
}


def boundaries_of(source: Source) -> frozenset[Boundary]:
    if isinstance(source, Recorded):
        return frozenset({source.boundary})
    return KINDS[source.kind].boundaries


def metered_source(source: Source, place: Place) -> AbstractContextManager[Recorder]:
    """One source for the length of a with block, on a thread of its own."""
    opened = KINDS[source.kind].opened(source, place)
    return power_metered(source.kind, boundaries_of(source), opened)
