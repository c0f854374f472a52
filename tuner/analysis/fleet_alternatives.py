"""What else a fleet's day could earn: at other prices, or with one configuration for all tiers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.fleet import Plan, of_one_trial, plan
from tuner.config.groups.fleet import Candidate, Demand, FleetConfig
from tuner.config.groups.hardware import Estimate


@dataclass(frozen=True, slots=True)
class FleetAlternatives:
    """Dollars a day with all prices at their worst and best ends, and the best plan of a single trial."""

    low_usd_day: float
    high_usd_day: float
    single: Plan

    @property
    def single_trial(self) -> int:
        """The trial whose configuration serves all tiers in `single`."""
        return self.single.candidates[0].trial


def alternatives(config: FleetConfig, candidates: Sequence[Candidate]) -> FleetAlternatives:
    """Plans the day again for each alternative. Raises ValueError if no candidate can serve."""
    low, high = (plan(at_price_ends(config, end), candidates).usd_day for end in (0, 1))
    return FleetAlternatives(low, high, of_one_trial(config, candidates))


def at_price_ends(config: FleetConfig, end: int) -> FleetConfig:
    """All token prices at their low (0) or high (1) end, electricity at the opposite one."""

    def at(estimate: Estimate, side: int) -> Estimate:
        return estimate.model_copy(update={"value": estimate.ends[side]})

    def priced(demand: Demand) -> Demand:
        return demand.model_copy(
            update={"usd_per_m_output_tok": at(demand.usd_per_m_output_tok, end)}
        )

    return config.model_copy(
        update={
            "power_usd_per_kwh": at(config.power_usd_per_kwh, 1 - end),
            "demand": {tier: priced(each) for tier, each in config.demand.items()},
        }
    )
