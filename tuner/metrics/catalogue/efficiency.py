"""Tokens against joules and watts, inside each boundary that power can be drawn at. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tuner.metrics.catalogue.load import TOKENS
from tuner.metrics.catalogue.metric import Metric, by_name


@dataclass(frozen=True, slots=True)
class PowerBoundary:
    """Which watts are counted. `phrase`: as in «tok/s per …», with `{}` for the unit."""

    name: Literal["board", "node", "provisioned", "facility"]
    meaning: str
    phrase: str
    needs: tuple[str, ...] = ()


BOUNDARIES: Mapping[str, PowerBoundary] = {
    boundary.name: boundary
    for boundary in (
        PowerBoundary("board", "GPU boards, metered", "{} of GPU boards"),
        PowerBoundary("node", "whole nodes, metered", "{} of whole nodes"),
        PowerBoundary(
            "provisioned",
            "the provisioned all-in constant of the hardware",
            "provisioned {}",
            ("hardware.kw_per_device",),
        ),
        PowerBoundary(
            "facility",
            "the facility: PUE times what its machines draw",
            "{} of the facility",
            ("economics.facility",),
        ),
    )
}
# Joules of the boards are metered, not calculated from watts: `catalogue.power` has them.
METERED = {tokens: f"energy_j_per_{tokens}_tok" for tokens in TOKENS}


def joules_per_token(boundary: str, tokens: str) -> str:
    """The name of the metric."""
    return METERED[tokens] if boundary == "board" else f"{boundary}_j_per_{tokens}_tok"


def tok_s_per_watt(boundary: str, tokens: str) -> str:
    """The name of the metric."""
    return f"{boundary}_{tokens}_tok_s_w"


def tok_s_per_megawatt(boundary: str, tokens: str) -> str:
    """The name of the metric."""
    return f"{boundary}_{tokens}_tok_s_mw"


def _metrics(boundary: PowerBoundary, tokens: str, counted: str) -> Iterator[Metric]:
    if boundary.name != "board":
        yield Metric(
            name=joules_per_token(boundary.name, tokens),
            unit="J/tok",
            label=f"{boundary.phrase.format('J')} per {counted} token",
            meaning=f"energy per {counted} token; power: {boundary.meaning}",
            direction="min",
            boundary=boundary.name,
            needs=boundary.needs,
        )
    yield Metric(
        name=tok_s_per_watt(boundary.name, tokens),
        unit="tok/s/W",
        label=f"{counted} tok/s per {boundary.phrase.format('W')}",
        meaning=f"{counted} tokens per second and watt; power: {boundary.meaning}",
        direction="max",
        boundary=boundary.name,
        needs=boundary.needs,
    )
    yield Metric(
        name=tok_s_per_megawatt(boundary.name, tokens),
        unit="tok/s/MW",
        label=f"{counted} tok/s per {boundary.phrase.format('MW')}",
        meaning=f"{counted} tokens per second and megawatt; power: {boundary.meaning}",
        direction="max",
        saves_devices=True,
        boundary=boundary.name,
        needs=boundary.needs,
    )


EFFICIENCY = by_name(
    metric
    for boundary in BOUNDARIES.values()
    for tokens, counted in TOKENS.items()
    for metric in _metrics(boundary, tokens, counted)
)
