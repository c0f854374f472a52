"""Tokens against watts, inside each boundary that power can be drawn at. Pure.

No boundary stands in for another: a figure carries the name of its own, and is None where it is not known.
Joules per token of the boards are no figure of this file: `tuner.metrics.energy` has them, as metered.
"""

from collections.abc import Mapping

from tuner.config.groups.economics import Facility
from tuner.config.groups.hardware import Hardware

Metrics = Mapping[str, float | None]

TOKENS = {"output": "output", "total": "prompt and output"}
BOUNDARIES = {
    "board": "GPU boards, measured",
    "node": "whole nodes, measured",
    "provisioned": "the provisioned all-in constant",
    "facility": "the building: PUE times what its machines draw",
}
EFFICIENCY = {
    name.format(boundary, tokens): text.format(what, TOKENS[tokens])
    for boundary, what in BOUNDARIES.items()
    for tokens in TOKENS
    for name, text in (
        ("{}_j_per_{}_tok", "joules per token, {1} tokens counted, of {0}"),
        ("{}_{}_tok_s_w", "{1} tokens a second per watt of {0}"),
        ("{}_{}_tok_s_mw", "{1} tokens a second per megawatt of {0}"),
    )
    if (name, boundary) != ("{}_j_per_{}_tok", "board")
}
METERED = {f"board_j_per_{tokens}_tok": f"energy_j_per_{tokens}_tok" for tokens in TOKENS}


def joules_per_token(boundary: str, tokens: str) -> str:
    """The metric's name."""
    name = f"{boundary}_j_per_{tokens}_tok"
    return METERED.get(name, name)


def watts(
    metrics: Metrics, hardware: Hardware, facility: Facility | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Watts per device inside each boundary; and for each that is None the reason.

    Needs `power_w_device` (boards) and `node_power_w_device` (the node's, over its devices).
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
    """The figures of `EFFICIENCY`, and for each that is None the reason."""
    drawn, unknown = watts(metrics, hardware, facility)
    figures: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for boundary, watt in drawn.items():
        for tokens in TOKENS:
            rate = metrics.get(f"throughput_{tokens}_tok_s")
            names = (
                f"{boundary}_j_per_{tokens}_tok",
                *(f"{boundary}_{tokens}_tok_s_{unit}" for unit in ("w", "mw")),
            )
            joules = watt * devices / rate if rate and watt else None
            values = (None,) * 3 if joules is None else (joules, 1 / joules, 1e6 / joules)
            found = {n: v for n, v in zip(names, values, strict=True) if n in EFFICIENCY}
            figures |= found
            if joules is None:
                why = unknown.get(boundary, "no throughput was measured")
                reasons |= dict.fromkeys(found, why if rate else "no throughput was measured")
    return figures, reasons
