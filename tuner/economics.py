"""Constants of hardware, each with its source and date, and the arithmetic of money. Pure."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict
from serving.twin.config import TwinConfig

NonNegative = Annotated[float, Field(ge=0)]

# name → what it is: made of a measured throughput and the constants of the hardware.
DERIVED = {
    name.format(tokens): text.format(tokens)
    for tokens in ("output", "total")
    for name, text in (
        ("throughput_{}_tok_s_device", "{} tokens a second per device"),
        ("provisioned_{}_tok_s_mw", "{} tokens a second per provisioned megawatt"),
        ("usd_per_m_{}_tok", "dollars per million {} tokens"),
    )
}


class Constant(Strict):
    """A figure that was not measured here: it always travels with where it came from, and when."""

    value: NonNegative
    source: str
    date: str


class Hardware(Strict):
    """`kw_per_device`: provisioned, all-in. Of a constant that is None no figure is made.

    `twin`: engines are not started but emulated, as if they ran on this machine.
    """

    name: str
    device: Literal["GPU", "host"]
    devices_per_node: Annotated[int, Field(ge=1)]
    kw_per_device: Constant | None = None
    usd_per_device_hour: Constant | None = None
    twin: TwinConfig | None = None


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
    metrics: Mapping[str, float | None], devices: int, hardware: Hardware
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The figures of `DERIVED`, and for each that is None the reason.

    `output` counts generated tokens, `total` the prompt's as well.
    """
    derived: dict[str, float | None] = {}
    for tokens in ("output", "total"):
        measured = metrics.get(f"throughput_{tokens}_tok_s")
        rate = None if measured is None else measured / devices
        derived |= {
            f"throughput_{tokens}_tok_s_device": rate,
            f"provisioned_{tokens}_tok_s_mw": (
                None if rate is None else tokens_per_s_per_mw(rate, hardware)
            ),
            f"usd_per_m_{tokens}_tok": (
                None if rate is None else usd_per_million_tokens(rate, hardware)
            ),
        }
    missing = (name for name, value in derived.items() if value is None)
    return derived, {name: _why_missing(name, metrics, hardware) for name in missing}


def _why_missing(name: str, metrics: Mapping[str, float | None], hardware: Hardware) -> str:
    tokens = "output" if "output" in name else "total"
    if not metrics.get(f"throughput_{tokens}_tok_s"):
        return "no throughput was measured"
    constant = "kw_per_device" if name.startswith("provisioned") else "usd_per_device_hour"
    return f"hardware {hardware.name} states no {constant}"
