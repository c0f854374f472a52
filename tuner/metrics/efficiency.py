"""Watts inside each boundary, and tokens per joule, watt and megawatt from them. Pure.

No boundary stands in for another: where its watts are unknown its metrics are None. Joules per token of the
boards are metered: `tuner.metrics.energy` has them.
"""

from collections.abc import Mapping

from tuner.config.groups.economics import Facility
from tuner.config.groups.hardware import Hardware
from tuner.metrics.catalogue.efficiency import (
    EFFICIENCY,
    joules_per_token,
    tok_s_per_megawatt,
    tok_s_per_watt,
)
from tuner.metrics.catalogue.load import TOKENS

Metrics = Mapping[str, float | None]


def watts(
    metrics: Metrics, hardware: Hardware, facility: Facility | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Watts per device inside each boundary, and the reason for each that is unknown.

    `metrics`: with `power_w_device` (boards) and `node_power_w_device` (the node's, over its devices).
    """
    board, node = metrics.get("power_w_device"), metrics.get("node_power_w_device")
    constant = hardware.kw_per_device
    provisioned = constant.value * 1000 if constant is not None and constant.value else None
    found = {
        "board": board,
        "node": node,
        "provisioned": provisioned,
        "facility": None if facility is None else facility.watts(board, node),
    }
    reasons = {
        "board": "no valid power of the GPU boards: power_w_device says why",
        "node": "no valid power of the node: node_power_w_device says why",
        "provisioned": f"hardware {hardware.name} states no kw_per_device",
        "facility": (
            "economics states no facility (its PUE)"
            if facility is None
            else f"no valid power of the {facility.measured} was measured"
        ),
    }
    return found, {name: why for name, why in reasons.items() if not found[name]}


def efficiency(
    metrics: Metrics, devices: int, hardware: Hardware, facility: Facility | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The metrics of `EFFICIENCY`, and for each that is None the reason."""
    drawn, unknown = watts(metrics, hardware, facility)
    figures: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for boundary, watt in drawn.items():
        for tokens in TOKENS:
            rate = metrics.get(f"throughput_{tokens}_tok_s")
            names = (
                joules_per_token(boundary, tokens),
                tok_s_per_watt(boundary, tokens),
                tok_s_per_megawatt(boundary, tokens),
            )
            joules = watt * devices / rate if rate and watt else None
            values = (None,) * 3 if joules is None else (joules, 1 / joules, 1e6 / joules)
            found = {n: v for n, v in zip(names, values, strict=True) if n in EFFICIENCY}
            figures |= found
            if joules is None:
                why = unknown.get(boundary, "no throughput was measured")
                reasons |= dict.fromkeys(found, why if rate else "no throughput was measured")
    return figures, reasons
