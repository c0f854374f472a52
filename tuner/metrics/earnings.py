"""What capacity costs and tokens earn: every input is configuration, with its source, date and bounds. Pure.

A device-hour is an hour of owned or rented capacity, sold or idle: revenue counts the share that is sold.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Strict
from tuner.config.groups.hardware import Estimate, Hardware

HOURS_PER_YEAR = 8760.0
Metrics = Mapping[str, float | None]

EARNINGS = {
    "cost_usd_device_hour": "dollars that an hour of a device costs, sold or idle",
    "cost_usd_per_m_output_tok": "dollars of cost per million output tokens sold",
    "cost_usd_per_m_total_tok": "dollars of cost per million prompt and output tokens sold",
    "cost_usd_per_m_blended_tok": (
        "dollars of cost per million output tokens sold, a prompt token counted at its share of their price"
    ),
    "revenue_usd_device_hour": "dollars that an hour of a device earns, idle hours counted in",
    "margin_usd_device_hour": "revenue less cost of a device-hour, in dollars",
    "provisioned_revenue_usd_mw_year": "dollars of revenue per year and provisioned megawatt",
    "provisioned_margin_usd_mw_year": "dollars of margin per year and provisioned megawatt",
    "facility_revenue_usd_mw_year": "dollars of revenue per year and megawatt of the building",
    "facility_margin_usd_mw_year": "dollars of margin per year and megawatt of the building",
    "break_even_utilisation": "the share of hours that must be sold for revenue to equal cost",
}
SIGNED = {name for name in EARNINGS if "margin" in name}  # the only figures that may be below 0
NEEDS_PRICES = {name for name in EARNINGS if not name.startswith("cost")} | {
    "cost_usd_per_m_blended_tok"
}


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


def annuity(interest: float, years: float) -> float:
    """The share of a capital that is due each year: i ÷ (1 − (1 + i)^−n), and 1/n without interest."""
    return 1 / years if not interest else interest / (1 - (1 + interest) ** -years)


def usd_device_hour(
    economics: Economics, hardware: Hardware, watts: Mapping[str, float | None]
) -> float | None:
    """What an hour of a device costs. `watts`: per device, by boundary; None where one that is billed lacks."""
    match economics.capacity:
        case None:
            constant = hardware.usd_per_device_hour
            return None if constant is None else constant.value
        case Rented() as rented:
            return rented.usd_per_device_hour.value
        case Owned() as owned:
            drawn = watts.get(owned.energy)
            if not drawn:
                return None
            yearly = owned.capital_usd_per_device.value * annuity(
                owned.interest.value, owned.lifetime_years.value
            )
            power = owned.power_usd_per_kwh.value * drawn / 1000
            return yearly / HOURS_PER_YEAR + owned.operations_usd_per_device_hour.value + power


def earnings(
    metrics: Metrics,
    devices: int,
    economics: Economics,
    cost: float | None,
    watts: Mapping[str, float | None],
    tier: str | None = None,
) -> dict[str, float | None]:
    """The figures of `EARNINGS` for an operating point, sold in a tier or by its own speed.

    `cost`: dollars per device-hour. `watts`: per device, by boundary.
    """
    output, total = (_rate(metrics, tokens, devices) for tokens in ("output", "total"))
    found: dict[str, float | None] = dict.fromkeys(EARNINGS)
    found["cost_usd_device_hour"] = cost
    for tokens, rate in (("output", output), ("total", total)):
        if cost is not None and rate:
            found[f"cost_usd_per_m_{tokens}_tok"] = cost * 1e6 / (3600 * rate * economics.sold)
    prices = economics.prices
    factor = (
        None if prices is None else prices.factor(metrics.get("interactivity_tok_s_user"), tier)
    )
    if prices is None or factor is None or output is None or total is None:
        return found
    list_usd = (
        (total - output) * prices.usd_per_prompt() + output * prices.usd_per_m_output.value
    ) * (3600 / 1e6)
    full = factor * list_usd
    found |= _sold(full, cost, economics.sold, watts)
    if cost is not None and list_usd > 0:
        per_output = prices.usd_per_m_output.value
        found["cost_usd_per_m_blended_tok"] = cost / (list_usd * economics.sold) * per_output
    return found


def _sold(
    full: float, cost: float | None, sold: float, watts: Mapping[str, float | None]
) -> dict[str, float | None]:
    """`full`: dollars that a device would earn in an hour without a pause."""
    revenue = full * sold
    margin = None if cost is None else revenue - cost
    found: dict[str, float | None] = {
        "revenue_usd_device_hour": revenue,
        "margin_usd_device_hour": margin,
        "break_even_utilisation": None if cost is None or not full else cost / full,
    }
    for boundary in ("provisioned", "facility"):
        if drawn := watts.get(boundary):
            per_mw_year = HOURS_PER_YEAR * 1e6 / drawn
            found[f"{boundary}_revenue_usd_mw_year"] = revenue * per_mw_year
            found[f"{boundary}_margin_usd_mw_year"] = (
                None if margin is None else margin * per_mw_year
            )
    return found


def _rate(metrics: Metrics, tokens: str, devices: int) -> float | None:
    rate = metrics.get(f"throughput_{tokens}_tok_s")
    return rate / devices if rate else None
