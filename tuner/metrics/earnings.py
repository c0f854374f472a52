"""Cost of capacity and revenue of tokens, per device-hour, per token and per megawatt. Pure.

A device-hour is an hour of owned or rented capacity, sold or idle; revenue counts the share of hours sold.
"""

from collections.abc import Mapping

from tuner.config.groups.economics import Economics, Owned, Rented
from tuner.config.groups.hardware import Hardware
from tuner.metrics.catalogue.earnings import EARNINGS

HOURS_PER_YEAR = 8760.0
Metrics = Mapping[str, float | None]


def annuity(interest: float, years: float) -> float:
    """The share of the capital to pay each year over n years: i ÷ (1 − (1 + i)^−n); 1/n without interest."""
    return 1 / years if not interest else interest / (1 - (1 + interest) ** -years)


def usd_device_hour(
    economics: Economics, hardware: Hardware, watts: Mapping[str, float | None]
) -> float | None:
    """The cost of a device-hour. `watts`: per device, by boundary; None where the billed one is unknown."""
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
    """The metrics of `EARNINGS` for an operating point; None where an input is not known.

    `cost`: dollars per device-hour. `watts`: per device, by boundary. `tier`: its price factor applies; None:
    that of the point's own speed.
    """
    output, total = (_rate(metrics, tokens, devices) for tokens in ("output", "total"))
    found: dict[str, float | None] = dict.fromkeys(EARNINGS)
    found["cost_usd_device_hour"] = cost
    for tokens, rate in (("output", output), ("total", total)):
        if cost is not None and rate:
            found[f"cost_usd_per_m_{tokens}_tok"] = (
                cost * 1e6 / (3600 * rate * economics.sold_share)
            )
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
    found |= _hourly(full, cost, economics.sold_share, watts)
    if cost is not None and list_usd > 0:
        per_output = prices.usd_per_m_output.value
        found["cost_usd_per_m_blended_tok"] = cost / (list_usd * economics.sold_share) * per_output
    return found


def _hourly(
    full: float, cost: float | None, sold_share: float, watts: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Revenue and margin of a device-hour and of a megawatt-year. `full`: revenue of an hour, all sold."""
    revenue = full * sold_share
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
