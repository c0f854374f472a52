"""What capacity costs and tokens sell for: every figure with its source, date and bounds. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from tuner.config.groups.hardware import Estimate
from tuner.metrics.catalogue import EARNINGS


class Rented(Strict):
    """Capacity by the hour, electricity included."""

    kind: Literal["rented"]
    usd_per_device_hour: Estimate


class Owned(Strict):
    """Capital as an annuity, operations, and the electricity bill.

    `energy`: provisioned bills the constant of the hardware; facility what the building draws under this load,
    all hours alike (idle hours draw less: the cost is an upper bound).
    """

    kind: Literal["owned"]
    capital_usd_per_device: Estimate
    lifetime_years: Estimate
    interest: Estimate  # a year, as a share
    operations_usd_per_device_hour: Estimate
    power_usd_per_kwh: Estimate
    energy: Literal["provisioned", "facility"] = "provisioned"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.lifetime_years.ends[0]:
            raise ValueError("lifetime_years: more than 0")
        return self


class Facility(Strict):
    """Watts of the building per device. `host_w_per_device`: what a node draws beyond its boards; None: the
    node itself is metered, and only that counts.
    """

    pue: Estimate
    host_w_per_device: Estimate | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.pue.ends[0] < 1:
            raise ValueError("pue: at least 1: the building draws what its machines draw, and more")
        return self

    @property
    def measured(self) -> str:
        return "node" if self.host_w_per_device is None else "GPU boards"

    def watts(self, board: float | None, node: float | None) -> float | None:
        """PUE × node, or PUE × (board + host), per device."""
        if self.host_w_per_device is None:
            return None if node is None else self.pue.value * node
        return None if board is None else self.pue.value * (board + self.host_w_per_device.value)


class Premium(Strict):
    """From this speed on, tokens sell at `factor` times the list price."""

    from_tok_s_user: Annotated[float, Field(ge=0)]
    factor: Estimate


class Prices(Strict):
    """List prices, and what speed does to them: by tok/s/user in steps or linearly between, or by tier.

    `cached_share`: of prompt tokens, those expected to be billed as cached.
    """

    usd_per_m_input: Estimate
    usd_per_m_output: Estimate
    usd_per_m_cached_input: Estimate | None = None
    cached_share: Estimate | None = None
    premium: tuple[Premium, ...] = ()
    between: Literal["step", "linear"] = "step"
    tiers: dict[str, Estimate] = Field(default_factory=dict)  # tier of the SLO → factor

    @model_validator(mode="after")
    def _sound(self) -> Self:
        speeds = [each.from_tok_s_user for each in self.premium]
        if speeds != sorted(set(speeds)):
            raise ValueError("premium: from_tok_s_user must rise")
        if (self.usd_per_m_cached_input is None) != (self.cached_share is None):
            raise ValueError("usd_per_m_cached_input and cached_share go together")
        if self.cached_share is not None and self.cached_share.ends[1] > 1:
            raise ValueError("cached_share is a share: at most 1")
        return self

    def factor(self, tok_s_user: float | None, tier: str | None = None) -> float | None:
        """Of the list price: the tier's where it has one, else that of the speed; None if that is not known."""
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
        """Dollars per million prompt tokens, cached ones counted at their price."""
        if self.usd_per_m_cached_input is None or self.cached_share is None:
            return self.usd_per_m_input.value
        share = self.cached_share.value
        return (1 - share) * self.usd_per_m_input.value + share * self.usd_per_m_cached_input.value


class Zone(Strict):
    """The Goldilocks zone: all that earns, by `figure`, within this share of the best."""

    figure: str = "provisioned_margin_usd_mw_year"
    within: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Economics(Strict):
    """`capacity` None: the hardware's constant. `utilisation` None: every hour is sold."""

    name: str = "none"
    capacity: Annotated[Rented | Owned, Field(discriminator="kind")] | None = None
    utilisation: Estimate | None = None
    prices: Prices | None = None
    facility: Facility | None = None
    zone: Zone = Zone()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.utilisation is not None:
            low, high = self.utilisation.ends
            if not 0 < low <= high <= 1:
                raise ValueError("utilisation: a share above 0, at most 1")
        if self.zone.figure not in EARNINGS or self.zone.figure.startswith(("cost", "break")):
            known = ", ".join(n for n in EARNINGS if not n.startswith(("cost", "break")))
            raise ValueError(f"zone.figure: {self.zone.figure} is none of {known}")
        return self

    @property
    def sold(self) -> float:
        return 1.0 if self.utilisation is None else self.utilisation.value
