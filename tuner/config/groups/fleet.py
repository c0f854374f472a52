"""What a fleet is planned from: a budget, a day's demand by tier, measured points that serve it. Pure."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from tuner.config.groups.hardware import Estimate

HOURS = 24


class Demand(Strict):
    """The demand of one tier over a day."""

    peak_output_tok_s: Annotated[float, Field(gt=0, le=1e15)] = Field(
        description="output tokens per second in the busiest hour"
    )
    share_by_hour: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        description="share of the peak in each hour of the day: 24 values, or 1 for all hours"
    )
    usd_per_m_output_tok: Estimate = Field(
        description="revenue per million output tokens, $, that of their input tokens included"
    )

    @model_validator(mode="after")
    def _a_day(self) -> Self:
        if len(self.share_by_hour) not in (1, HOURS):
            raise ValueError(
                f"share_by_hour: 24 values, or 1 for all, not {len(self.share_by_hour)}"
            )
        return self

    def tok_s(self, hour: int) -> float:
        """Output tokens per second in an hour of the day."""
        return self.peak_output_tok_s * self.share_by_hour[hour % len(self.share_by_hour)]


class FleetConfig(Strict):
    """The budget of a fleet, and the demand that it serves."""

    name: str = Field(description="name in reports")
    megawatts: Annotated[float, Field(gt=0, le=1_000_000)] = Field(description="power budget, MW")
    devices: Annotated[int, Field(gt=0, le=1_000_000_000)] = Field(
        description="devices in the fleet"
    )
    boundary: Literal["provisioned", "facility"] = Field(
        default="provisioned",
        description="which power counts against the budget and is billed: the hardware's constant per "
        "device, or what the facility draws under the load",
    )
    power_usd_per_kwh: Estimate = Field(description="price of electricity, $/kWh")
    demand: Annotated[dict[str, Demand], Field(min_length=1)] = Field(
        description="tier of the study → its demand"
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica of a measured configuration, at a load at which it meets a tier's SLO.

    `trial`: number of the trial that measured it. `watts`: of the replica, inside the fleet's boundary.
    """

    tier: str
    trial: int
    label: str
    devices: int
    watts: float
    output_tok_s: float
    modelled: bool = False
