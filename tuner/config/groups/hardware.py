"""The hardware of a study, and constants that were not measured here, each with source and date. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from serving.twin.config import TwinConfig

NonNegative = Annotated[float, Field(ge=0, le=1e12)]


class Constant(Strict):
    """A value that was not measured here, with its source."""

    value: NonNegative = Field(description="the value, in the unit of the key that holds it")
    source: str = Field(description="where the value is from")
    date: str = Field(description="when the source stated it")


class Estimate(Constant):
    """A constant with bounds. A bound that is not stated is `value` itself."""

    low: NonNegative | None = Field(default=None, description="lower bound; null: `value`")
    high: NonNegative | None = Field(default=None, description="upper bound; null: `value`")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.ends
        if not low <= self.value <= high:
            raise ValueError(f"low ≤ value ≤ high must hold: {low:g}, {self.value:g}, {high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The bounds, (low, high)."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )


class Hardware(Strict):
    """A kind of node, real or emulated. Metrics that need a constant which is null are not calculated."""

    name: str = Field(description="name in reports")
    device: Literal["GPU", "host"] = Field(
        description="what metrics per device divide by: GPUs, or hosts for engines on CPU cores"
    )
    devices_per_node: Annotated[int, Field(ge=1, le=65_536)] = Field(
        description="devices in a node"
    )
    gib_per_device: Constant | None = Field(
        default=None,
        description="memory of a GPU, GiB: layouts that a model can't fit are not tried; null: all are",
    )
    kw_per_device: Constant | None = Field(
        default=None,
        description="provisioned all-in power (IT, cooling, conversion), kW per device",
    )
    usd_per_device_hour: Constant | None = Field(
        default=None, description="price of a device-hour, $"
    )
    twin: TwinConfig | None = Field(
        default=None,
        description="emulate the engines as if they ran on this hardware; null: start them",
    )
