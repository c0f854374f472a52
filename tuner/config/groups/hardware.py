"""Figures that were not measured here, each with its source and date, and the hardware that has them. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from serving.twin.config import TwinConfig

NonNegative = Annotated[float, Field(ge=0)]


class Constant(Strict):
    """A figure that was not measured here: it always travels with where it came from, and when."""

    value: NonNegative
    source: str
    date: str


class Estimate(Constant):
    """A constant that is known within bounds. What is left out is as certain as `value`."""

    low: NonNegative | None = None
    high: NonNegative | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.ends
        if not low <= self.value <= high:
            raise ValueError(f"low ≤ value ≤ high must hold: {low:g}, {self.value:g}, {high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )


class Hardware(Strict):
    """`kw_per_device`: provisioned, all-in. Of a constant that is None no figure is made.

    `twin`: engines are not started but emulated, as if they ran on this machine.
    """

    name: str
    device: Literal["GPU", "host"]
    devices_per_node: Annotated[int, Field(ge=1)]
    kw_per_device: Constant | None = None
    usd_per_device_hour: Constant | None = None
    twin: TwinConfig | None = None
