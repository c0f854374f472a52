"""How the metering of power is configured: the kinds of sources, and limits and clocks of the GPUs."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from serving.telemetry.base import Boundary
from serving.telemetry.sources import ipmi
from serving.topology import Pause, Strict, Watts


class Nvml(Strict):
    """The trial's own GPUs, read from NVIDIA's driver."""

    kind: Literal["nvml"] = Field(
        default="nvml", description="NVIDIA's driver: the boards of the trial's own GPUs"
    )


class Twin(Strict):
    """Emulated GPUs: replaces all other sources where engines are emulated."""

    kind: Literal["twin"] = Field(
        default="twin", description="the emulated engine's own figures: modelled, not measured"
    )


class Rapl(Strict):
    """Processors and memory of the node, where its counters may be read."""

    kind: Literal["rapl"] = Field(
        default="rapl", description="Linux powercap (RAPL): processor packages and memory"
    )


class Redfish(Strict):
    """User and password: WATTFRONT_REDFISH_USER and WATTFRONT_REDFISH_PASSWORD in the node's environment."""

    kind: Literal["redfish"] = Field(
        description="the node's management controller over Redfish: the whole machine"
    )
    url: Annotated[
        str, Field(pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[^/:\[\]]+)(:[0-9]{1,5})?(/.*)?$")
    ] = Field(
        description="URL of a Power, EnvironmentMetrics or Sensor resource; {host} in it stands for "
        "the node's name"
    )
    verify: bool = Field(
        default=True, description="whether the controller's TLS certificate is verified"
    )
    ca_file: str | None = Field(
        default=None,
        description="path on the node of the CA certificates to trust; unset: those of the system",
    )


class Ipmi(Strict):
    """Reads the output of `ipmitool dcmi power reading`, or of a command that prints the same."""

    kind: Literal["ipmi"] = Field(
        description="the node's management controller over IPMI: the whole machine"
    )
    command: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=ipmi.COMMAND,
        description="the command that prints the reading, for example with sudo",
    )


class Recorded(Strict):
    """A recorded trace, played back at its own pace as the readings of one boundary."""

    kind: Literal["recorded"] = Field(description="a trace that was recorded before, played back")
    path: Path = Field(
        description="a trial's power.parquet, or JSON lines (.jsonl, .jsonl.gz), on the node"
    )
    boundary: Boundary = Field(
        default="gpu", description="the boundary that the trace counts for: gpu, cpu, dram or node"
    )


Source = Annotated[Nvml | Twin | Rapl | Redfish | Ipmi | Recorded, Field(discriminator="kind")]


def _usual() -> dict[str, Source]:
    return {"gpu": Nvml(), "cpu": Rapl()}


class PowerConfig(Strict):
    """Power limits and clocks of a trial's GPUs, and how its energy is metered."""

    limit_w: Watts | None = Field(
        default=None,
        description="power limit of each GPU in watts, for the length of the trial; unset: left alone",
    )
    sm_clock_mhz: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="locked SM clock of each GPU in MHz, for the length of the trial; unset: left alone",
    )
    idle_s: Pause = Field(
        default=3.0,
        description="seconds for which idle power is metered, before the engine starts and again with "
        "the model loaded; 0: not metered",
    )
    sources: dict[str, Source] = Field(
        default_factory=_usual,
        description="power sources by name; each covers its boundaries (gpu, cpu, dram, node)",
    )
