"""Metrics calculated from measured ones and constants: per device, per watt, per dollar. Pure."""

from collections.abc import Mapping

from tuner.config.groups.economics import Economics, Owned
from tuner.config.groups.hardware import Hardware
from tuner.metrics.catalogue import CATALOGUE
from tuner.metrics.catalogue.earnings import COST
from tuner.metrics.catalogue.load import TOKENS
from tuner.metrics.earnings import Metrics, earnings, usd_device_hour
from tuner.metrics.efficiency import efficiency, watts


def tokens_per_s_per_mw(tok_s_device: float, hardware: Hardware) -> float | None:
    """tok/s per device ÷ provisioned MW per device; None where the hardware states no kW."""
    if hardware.kw_per_device is None or not hardware.kw_per_device.value:
        return None
    return tok_s_device * 1000 / hardware.kw_per_device.value


def usd_per_million_tokens(tok_s_device: float, hardware: Hardware) -> float | None:
    """$/Mtok = $/device-hour ÷ (3600 · tok/s/device) · 10⁶; None where the hardware states no price."""
    if hardware.usd_per_device_hour is None or tok_s_device <= 0:
        return None
    return hardware.usd_per_device_hour.value * 1e6 / (3600 * tok_s_device)


def derive(
    metrics: Metrics, devices: int, hardware: Hardware, economics: Economics | None = None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The derived metrics that are configured, and for each that is None the reason.

    `metrics`: the measured ones, power included. In names, `output` counts output tokens only, `total` input
    tokens as well.
    """
    economics = economics or Economics()
    figures, reasons = _per_device(metrics, devices, hardware)
    found, unknown = efficiency(metrics, devices, hardware, economics.facility)
    off = _unused_boundaries(metrics, economics)
    figures |= {n: value for n, value in found.items() if CATALOGUE[n].boundary not in off}
    reasons |= {n: why for n, why in unknown.items() if CATALOGUE[n].boundary not in off}
    if economics.prices is not None or economics.capacity is not None:
        money = earned(metrics, devices, hardware, economics)
        figures |= money
        reasons |= {
            name: _why_no_money(name, metrics, hardware, economics)
            for name, value in money.items()
            if value is None
        }
    return figures, reasons


def earned(
    metrics: Metrics,
    devices: int,
    hardware: Hardware,
    economics: Economics,
    tier: str | None = None,
) -> dict[str, float | None]:
    """Cost and earnings of an operating point, priced by a tier, or without one by its own speed."""
    drawn, _ = watts(metrics, hardware, economics.facility)
    cost = usd_device_hour(economics, hardware, drawn)
    return earnings(metrics, devices, economics, cost, drawn, tier)


def unconfigured(metric: str, economics: Economics, hardware: Hardware | None = None) -> str:
    """The key that has to be configured before a study can have this metric; empty where all are.

    Without `hardware` its constants are taken to be there.
    """
    unstated = (_unstated(key, economics, hardware) for key in CATALOGUE[metric].needs)
    return next(filter(None, unstated), "")


def _unstated(key: str, economics: Economics, hardware: Hardware | None) -> str:
    """The key itself, or the one that would do in its place; empty where it is stated."""
    price = "hardware.usd_per_device_hour"
    if key == COST and economics.capacity is None and economics.prices is not None:
        return _unstated(price, economics, hardware)
    stated = {
        COST: economics.capacity is not None,
        "economics.facility": economics.facility is not None,
        "economics.prices": economics.prices is not None,
        "hardware.kw_per_device": hardware is None or hardware.kw_per_device is not None,
        price: hardware is None or hardware.usd_per_device_hour is not None,
    }
    return "" if stated[key] else key


def _unused_boundaries(metrics: Metrics, economics: Economics) -> set[str]:
    """The boundaries that nothing is metered or configured for."""
    used = {
        "node": "node_power_w_device" in metrics,
        "facility": economics.facility is not None,
    }
    return {boundary for boundary, wanted in used.items() if not wanted}


def _per_device(
    metrics: Metrics, devices: int, hardware: Hardware
) -> tuple[dict[str, float | None], dict[str, str]]:
    figures: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for tokens in TOKENS:
        measured = metrics.get(f"throughput_{tokens}_tok_s")
        rate = None if measured is None else measured / devices
        speed, usd = f"throughput_{tokens}_tok_s_device", f"usd_per_m_{tokens}_tok"
        figures[speed] = rate
        figures[usd] = None if rate is None else usd_per_million_tokens(rate, hardware)
        if rate is None:
            reasons[speed] = "no throughput was measured"
        if figures[usd] is None:
            unpriced = f"hardware {hardware.name} states no usd_per_device_hour"
            reasons[usd] = unpriced if rate else "no throughput was measured"
    return figures, reasons


def _why_no_money(
    name: str, metrics: Mapping[str, float | None], hardware: Hardware, economics: Economics
) -> str:
    missing = unconfigured(name, economics)
    if missing:
        return f"{missing} is not stated"
    drawn, unknown = watts(metrics, hardware, economics.facility)
    metric = CATALOGUE[name]
    if COST in metric.needs and usd_device_hour(economics, hardware, drawn) is None:
        if isinstance(economics.capacity, Owned):
            return unknown[economics.capacity.energy]
        return f"hardware {hardware.name} states no usd_per_device_hour"
    if metric.boundary in unknown:
        return unknown[metric.boundary]
    if not metrics.get("throughput_output_tok_s") or not metrics.get("throughput_total_tok_s"):
        return "no throughput was measured"
    return "no interactivity was measured, and the price depends on it"
