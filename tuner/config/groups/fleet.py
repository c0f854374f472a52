"""What a fleet is planned from: a budget, a day's demand by tier, measured points that serve it. Pure."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from tuner.config.groups.hardware import Estimate

HOURS = 24


class Demand(Strict):
    """Generated tokens a second by hour of day, and what a million of them earns, their prompts included."""

    peak_output_tok_s: Annotated[float, Field(gt=0)]
    share_by_hour: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    usd_per_m_output_tok: Estimate

    @model_validator(mode="after")
    def _a_day(self) -> Self:
        if len(self.share_by_hour) not in (1, HOURS):
            raise ValueError(
                f"share_by_hour: 24 values, or 1 for all, not {len(self.share_by_hour)}"
            )
        return self

    def tok_s(self, hour: int) -> float:
        return self.peak_output_tok_s * self.share_by_hour[hour % len(self.share_by_hour)]


class FleetConfig(Strict):
    """`boundary`: which watts count against `megawatts`, and are billed. `demand`: by tier of the study."""

    name: str
    megawatts: Annotated[float, Field(gt=0)]
    devices: Annotated[int, Field(gt=0)]
    boundary: Literal["provisioned", "facility"] = "provisioned"
    power_usd_per_kwh: Estimate
    demand: Annotated[dict[str, Demand], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica of a measured configuration at a load that keeps a tier's promises. `trial`: whose point."""

    tier: str
    trial: int
    label: str
    devices: int
    watts: float
    output_tok_s: float
    modelled: bool = False
