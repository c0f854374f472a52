"""The cost of capacity and the prices of tokens, each with source, date and bounds. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from tuner.config.groups.hardware import Estimate
from tuner.metrics.catalogue.earnings import EARNINGS


class Rented(Strict):
    """Capacity rented by the hour, electricity included."""

    kind: Literal["rented"] = Field(description="rented by the hour")
    usd_per_device_hour: Estimate = Field(description="rent, $ per device-hour")


class Owned(Strict):
    """Capacity that is owned: capital as an annuity, operations, and electricity."""

    kind: Literal["owned"] = Field(description="owned: capital, operations, electricity")
    capital_usd_per_device: Estimate = Field(description="capital per device, $")
    lifetime_years: Estimate = Field(description="years over which the capital is paid")
    interest: Estimate = Field(
        description="yearly interest on the capital, as a share: 0.1 is 10 %"
    )
    operations_usd_per_device_hour: Estimate = Field(
        description="building, staff and maintenance, $ per device-hour"
    )
    power_usd_per_kwh: Estimate = Field(description="price of electricity, $/kWh")
    energy: Literal["provisioned", "facility"] = Field(
        default="provisioned",
        description="power that is billed: the hardware's constant, or what the facility draws under the load, "
        "in every hour (an upper bound: idle hours draw less)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.lifetime_years.ends[0]:
            raise ValueError("lifetime_years: must be above 0")
        return self


class Facility(Strict):
    """The power of the facility per device: its PUE times what the nodes draw."""

    pue: Estimate = Field(description="PUE: power of the facility over power of its machines")
    host_w_per_device: Estimate | None = Field(
        default=None,
        description="power of a node beyond its GPU boards, W per device; null: the node itself is metered",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pue.ends[0] < 1:
            raise ValueError("pue: must be at least 1: a facility draws no less than its machines")
        return self

    @property
    def measured(self) -> str:
        """What has to be metered for it, in words."""
        return "node" if self.host_w_per_device is None else "GPU boards"

    def watts(self, board: float | None, node: float | None) -> float | None:
        """PUE × node, or PUE × (board + host), per device; None where the metered part is unknown."""
        if self.host_w_per_device is None:
            return None if node is None else self.pue.value * node
        return None if board is None else self.pue.value * (board + self.host_w_per_device.value)


class Premium(Strict):
    """The price of tokens from some speed on."""

    from_tok_s_user: Annotated[float, Field(ge=0, le=1e12)] = Field(
        description="the speed from which the factor applies, tok/s per user"
    )
    factor: Estimate = Field(description="price as a multiple of the list price")


class Prices(Strict):
    """List prices of tokens, and multiples of them by speed or by tier."""

    usd_per_m_input: Estimate = Field(description="list price of a million input tokens, $")
    usd_per_m_output: Estimate = Field(description="list price of a million output tokens, $")
    usd_per_m_cached_input: Estimate | None = Field(
        default=None, description="price of a million cached input tokens, $; with `cached_share`"
    )
    cached_share: Estimate | None = Field(
        default=None, description="share of input tokens that are billed as cached"
    )
    premium: tuple[Premium, ...] = Field(
        default=(), description="multiples of the list price by speed, slowest first"
    )
    between: Literal["step", "linear"] = Field(
        default="step",
        description="between two speeds of `premium`: the factor of the lower one, or interpolated",
    )
    tiers: dict[str, Estimate] = Field(
        default_factory=dict,
        description="multiples of the list price by tier of `slo`, in place of `premium`",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        speeds = [each.from_tok_s_user for each in self.premium]
        if speeds != sorted(set(speeds)):
            raise ValueError("premium: from_tok_s_user must rise from entry to entry")
        if (self.usd_per_m_cached_input is None) != (self.cached_share is None):
            raise ValueError("usd_per_m_cached_input and cached_share: state both or neither")
        if self.cached_share is not None and self.cached_share.ends[1] > 1:
            raise ValueError("cached_share: a share is at most 1")
        return self

    def factor(self, tok_s_user: float | None, tier: str | None = None) -> float | None:
        """Multiple of the list price: the tier's if it has one, else the speed's; None if that is unknown."""
        if tier is not None and tier in self.tiers:
            return self.tiers[tier].value
        if not self.premium:
            return 1.0
        return None if tok_s_user is None else self._by_speed(tok_s_user)

    def _by_speed(self, tok_s_user: float) -> float:
        below = [step for step in self.premium if step.from_tok_s_user <= tok_s_user]
        above = self.premium[len(below) :]
        if not below:
            return self.premium[0].factor.value if self.between == "linear" else 1.0
        last = below[-1]
        if self.between == "step" or not above:
            return last.factor.value
        width = above[0].from_tok_s_user - last.from_tok_s_user
        share = (tok_s_user - last.from_tok_s_user) / width
        return last.factor.value + share * (above[0].factor.value - last.factor.value)

    def usd_per_prompt(self) -> float:
        """Dollars per million input tokens, the cached share at its own price."""
        if self.usd_per_m_cached_input is None or self.cached_share is None:
            return self.usd_per_m_input.value
        share = self.cached_share.value
        return (1 - share) * self.usd_per_m_input.value + share * self.usd_per_m_cached_input.value


class Zone(Strict):
    """The Goldilocks zone: the operating points that earn nearly as much as the best."""

    figure: str = Field(
        default="provisioned_margin_usd_mw_year", description="metric of revenue or margin to go by"
    )
    within: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="how far below the best the zone reaches, as a share of the best"
    )


Capacity = Annotated[Rented | Owned, Field(discriminator="kind")]


class Economics(Strict):
    """Costs and prices: what the metrics of cost and earnings are calculated from."""

    name: str = Field(default="none", description="name in reports")
    capacity: Capacity | None = Field(
        default=None,
        description="cost of capacity; null: hardware.usd_per_device_hour",
    )
    utilisation: Estimate | None = Field(
        default=None, description="share of hours that are sold; null: all"
    )
    prices: Prices | None = Field(
        default=None, description="prices of tokens; null: no revenue is calculated"
    )
    facility: Facility | None = Field(
        default=None,
        description="power of the facility; null: no metrics inside that boundary",
    )
    zone: Zone = Field(
        default=Zone(), description="which points the report calls the Goldilocks zone"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.utilisation is not None:
            low, high = self.utilisation.ends
            if not 0 < low <= high <= 1:
                raise ValueError("utilisation: a share above 0, at most 1")
        known = [name for name, metric in EARNINGS.items() if metric.direction == "max"]
        if self.zone.figure not in known:
            raise ValueError(f"zone.figure: {self.zone.figure} is none of {', '.join(known)}")
        return self

    @property
    def sold_share(self) -> float:
        """The share of hours that are sold."""
        return 1.0 if self.utilisation is None else self.utilisation.value
