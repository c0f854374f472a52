"""Constants of hardware, each with its source and date, and the arithmetic of money. Pure."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict

NonNegative = Annotated[float, Field(ge=0)]

# name → what it is. Modelled from a measured throughput and the constants of the hardware.
DERIVED = {
    f"{prefix}{tokens}{suffix}": text.format(tokens)
    for tokens in ("output", "total")
    for prefix, suffix, text in (
        ("throughput_", "_tok_s_device", "{} tokens a second per device"),
        ("throughput_", "_tok_s_mw", "{} tokens a second per provisioned megawatt"),
        ("usd_per_mtok_", "", "dollars per million {} tokens"),
        ("", "_tok_per_usd", "{} tokens per dollar"),
    )
}


class Constant(Strict):
    """A figure that was not measured here: it always travels with where it came from, and when."""

    value: NonNegative
    source: str
    date: str


class Hardware(Strict):
    """`kw_per_device`: provisioned, all-in. Unknown constants are None: no figure is made of them."""

    name: str
    device: Literal["GPU", "host"]
    devices_per_node: Annotated[int, Field(ge=1)]
    kw_per_device: Constant | None = None
    usd_per_device_hour: Constant | None = None


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


def usd_per_mw_hour(tok_s_device: float, usd_per_mtok: float, hardware: Hardware) -> float | None:
    """Revenue of one provisioned megawatt in an hour, at a price for a million tokens."""
    rate = tokens_per_s_per_mw(tok_s_device, hardware)
    return None if rate is None else rate * 3600 * usd_per_mtok / 1e6


def derive(
    metrics: Mapping[str, float | None], devices: int, hardware: Hardware
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Every figure of `DERIVED` from measured throughput; and for each that is None, the reason.

    `output` counts generated tokens, `total` the prompt's as well.
    """
    derived: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for tokens in ("output", "total"):
        measured = metrics.get(f"throughput_{tokens}_tok_s")
        rate = None if measured is None else measured / devices
        usd = None if rate is None else usd_per_million_tokens(rate, hardware)
        figures = {
            f"throughput_{tokens}_tok_s_device": rate,
            f"throughput_{tokens}_tok_s_mw": rate and tokens_per_s_per_mw(rate, hardware),
            f"usd_per_mtok_{tokens}": usd,
            f"{tokens}_tok_per_usd": 1e6 / usd if usd else None,
        }
        derived |= figures
        reasons |= {
            name: _why_missing(name, rate, hardware)
            for name, value in figures.items()
            if value is None
        }
    return derived, reasons


def _why_missing(name: str, rate: float | None, hardware: Hardware) -> str:
    if rate is None:
        return "throughput was not measured"
    if name.endswith("_mw"):
        return f"hardware {hardware.name} states no kw_per_device"
    if hardware.usd_per_device_hour is None:
        return f"hardware {hardware.name} states no usd_per_device_hour"
    return "no token was served, or hardware is free"
