"""The figures that are made of what was measured and of constants: money and megawatts. Pure."""

from collections.abc import Mapping

from tuner.config.groups.economics import Economics, Owned
from tuner.config.groups.hardware import Hardware
from tuner.metrics.catalogue import EARNINGS, NEEDS_PRICES
from tuner.metrics.earnings import Metrics, earnings, usd_device_hour
from tuner.metrics.efficiency import EFFICIENCY, TOKENS, efficiency, watts

# name → what it is. The first two are the public benchmark's own, so that figures compare.
PER_DEVICE = {
    name.format(tokens): text.format(tokens)
    for tokens in TOKENS
    for name, text in (
        ("throughput_{}_tok_s_device", "{} tokens a second per device"),
        ("usd_per_m_{}_tok", "dollars per million {} tokens, by the hardware's constant, all sold"),
    )
}
DERIVED = {**PER_DEVICE, **EFFICIENCY, **EARNINGS}


def tokens_per_s_per_mw(tok_s_device: float, hardware: Hardware) -> float | None:
    """Provisioned boundary: tok/s per device ÷ MW per device."""
    if hardware.kw_per_device is None or not hardware.kw_per_device.value:
        return None
    return tok_s_device * 1000 / hardware.kw_per_device.value


def usd_per_million_tokens(tok_s_device: float, hardware: Hardware) -> float | None:
    """$/Mtok = $/device-hour ÷ (3600 · tok/s/device) · 10⁶."""
    if hardware.usd_per_device_hour is None or tok_s_device <= 0:
        return None
    return hardware.usd_per_device_hour.value * 1e6 / (3600 * tok_s_device)


def derive(
    metrics: Metrics, devices: int, hardware: Hardware, economics: Economics | None = None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The figures of `DERIVED` that are configured, and for each that is None the reason.

    `output` counts generated tokens, `total` the prompt's as well. `metrics` hold the measured watts too.
    """
    economics = economics or Economics()
    figures, reasons = _per_device(metrics, devices, hardware)
    found, unknown = efficiency(metrics, devices, hardware, economics.facility)
    off = _not_asked_for(metrics, economics)
    figures |= {name: value for name, value in found.items() if not name.startswith(off)}
    reasons |= {name: why for name, why in unknown.items() if not name.startswith(off)}
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
    """The money of an operating point, sold in a tier, or by its own speed."""
    drawn, _ = watts(metrics, hardware, economics.facility)
    cost = usd_device_hour(economics, hardware, drawn)
    return earnings(metrics, devices, economics, cost, drawn, tier)


def unconfigured(metric: str, economics: Economics, hardware: Hardware | None = None) -> str:
    """What a study must state before it can have this figure; empty if it can. Without `hardware` its
    constants are taken to be there.
    """
    if metric.startswith("facility_") and economics.facility is None:
        return "economics.facility"
    if metric in NEEDS_PRICES and economics.prices is None:
        return "economics.prices"
    if metric in EARNINGS and economics.prices is None and economics.capacity is None:
        return "economics.capacity"
    return _no_constant(metric, economics, hardware)


def _no_constant(metric: str, economics: Economics, hardware: Hardware | None) -> str:
    if hardware is None:
        return ""
    if metric.startswith("provisioned_") and hardware.kw_per_device is None:
        return "hardware.kw_per_device"
    rests = metric.startswith("usd_per_m_")
    if economics.capacity is None:
        rests |= "margin" in metric or metric.startswith("cost_") or metric.startswith("break_even")
    return "hardware.usd_per_device_hour" if rests and hardware.usd_per_device_hour is None else ""


def _not_asked_for(metrics: Metrics, economics: Economics) -> tuple[str, ...]:
    asked = {
        "node_": "node_power_w_device" in metrics,
        "facility_": economics.facility is not None,
    }
    return tuple(prefix for prefix, wanted in asked.items() if not wanted)


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
            lacking = f"hardware {hardware.name} states no usd_per_device_hour"
            reasons[usd] = lacking if rate else "no throughput was measured"
    return figures, reasons


def _why_no_money(
    name: str, metrics: Mapping[str, float | None], hardware: Hardware, economics: Economics
) -> str:
    lacking = unconfigured(name, economics)
    if lacking:
        return f"{lacking} is not stated"
    drawn, unknown = watts(metrics, hardware, economics.facility)
    costs = "cost" in name or "margin" in name or name == "break_even_utilisation"
    if costs and usd_device_hour(economics, hardware, drawn) is None:
        if isinstance(economics.capacity, Owned):
            return unknown[economics.capacity.energy]
        return f"hardware {hardware.name} states no usd_per_device_hour"
    boundary = name.partition("_")[0]
    if boundary in unknown:
        return unknown[boundary]
    if not metrics.get("throughput_output_tok_s") or not metrics.get("throughput_total_tok_s"):
        return "no throughput was measured"
    return "no interactivity was measured, and the price depends on it"
