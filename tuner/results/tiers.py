"""Scores results against the SLO tiers: the best of each tier by the target metric. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import asinh, exp, log, sinh

from tuner.config.groups.objective import Axis, ObjectiveConfig, Slo, Tier
from tuner.metrics.catalogue import SIGNED
from tuner.metrics.notation import number, stated
from tuner.trial.result import OperatingPoint, TrialResult

UNKNOWN = math.inf  # the excess of a figure that was not measured: no SLO can rest on it


@dataclass(frozen=True, slots=True)
class Winner:
    """The best operating point inside a tier, `index` that of its result, `value` that of the target metric."""

    index: int
    result: TrialResult
    point: OperatingPoint
    value: float


@dataclass(frozen=True, slots=True)
class Closest:
    """No operating point meets the tier: the nearest one, if any, and the limits that it exceeds."""

    index: int | None = None
    result: TrialResult | None = None
    point: OperatingPoint | None = None
    over: tuple[tuple[str, float, float], ...] = ()  # metric, measured, limit
    unknown: str = ""  # why the target metric of the points inside is unavailable

    def __str__(self) -> str:
        if self.unknown:
            return f"unavailable: {self.unknown}"
        if self.point is None:
            return "not met: there is no valid level"
        misses = (
            f"{name} {'unknown' if math.isinf(value) else number(value, 4)} (limit {stated(limit)})"
            for name, value, limit in self.over
        )
        return f"not met; the closest level is {self.point.load}: {', '.join(misses)}"


def excess(tier: Tier, point: OperatingPoint) -> dict[str, float]:
    """How far the point is over each limit that it exceeds, relative to the limit; inf where unmeasured.

    The error rate is a share already: its excess is the plain difference.
    """
    return _excess(tier.limits(), point)


def _excess(limits: Mapping[str, float], point: OperatingPoint) -> dict[str, float]:
    off: dict[str, float] = {}
    for name, limit in limits.items():
        value = point.metrics.get(name)
        if value is None:
            off[name] = UNKNOWN
        elif value > limit:
            off[name] = value - limit if name == "error_rate" else value / limit - 1
    return off


def in_tier(tier: Tier, point: OperatingPoint) -> bool:
    """Whether the point meets every limit of the tier."""
    return not excess(tier, point)


def tier_values(slo: Slo, objective: ObjectiveConfig, result: TrialResult) -> dict[str, float]:
    """Tier → the utility of the trial's best point inside it; 0 if no point meets the tier."""
    winners = best_per_tier(slo, objective, [result])
    return {
        name: utility(objective.target, winner.value) if isinstance(winner, Winner) else 0.0
        for name, winner in winners.items()
    }


def utility(target: Axis, value: float) -> float:
    """The positive figure that samplers maximise: the value itself; for a metric that is minimised (joules or
    dollars per token) its reciprocal; for one that may be negative (margins) v + √(v² + 1), in the same order.
    """
    if target.direction == "min":
        return 1 / value
    return value if target.metric not in SIGNED else exp(asinh(value))


def from_utility(target: Axis, utility: float) -> float:
    """The value with this utility."""
    if target.direction == "min":
        return 1 / utility
    return utility if target.metric not in SIGNED else sinh(log(utility))


def best_per_tier(
    slo: Slo, objective: ObjectiveConfig, results: Sequence[TrialResult]
) -> dict[str, Winner | Closest]:
    """Tier → its best operating point; the first among equals."""
    target = objective.target
    found = [
        Winner(index, result, point, point.metrics.get(target.metric) or 0.0)
        for index, result in enumerate(results)
        if result.status == "completed"
        for point in result.points
        if point.valid
    ]
    return {name: _best(tier, target, found) for name, tier in slo.tiers.items()}


def _best(tier: Tier, target: Axis, found: Sequence[Winner]) -> Winner | Closest:
    limits = tier.limits()
    inside = [each for each in found if each.value and not _excess(limits, each.point)]
    if inside:
        return max(inside, key=lambda each: utility(target, each.value))
    outside = [each for each in found if _excess(limits, each.point)]
    if len(outside) < len(found):
        return Closest(unknown=_unknown(tier, target, found))
    if not outside:
        return Closest()
    return _closest(tier, min(outside, key=lambda each: _distance(tier, each, target)))


def _unknown(tier: Tier, target: Axis, found: Sequence[Winner]) -> str:
    point = next(each.point for each in found if in_tier(tier, each.point))
    why = point.reasons.get(target.metric, "it has no value, or is 0")
    return f"{target.metric} of the points that meet the SLO is not known: {why}"


def _distance(tier: Tier, each: Winner, target: Axis) -> tuple[float, float, float]:
    """Sort key: the worst excess, then their sum, then the better target metric."""
    off = excess(tier, each.point).values()
    return max(off), sum(off), -utility(target, each.value) if each.value else 0.0


def _closest(tier: Tier, nearest: Winner) -> Closest:
    limits, metrics = tier.limits(), nearest.point.metrics
    over = tuple(
        (name, UNKNOWN if (value := metrics.get(name)) is None else value, limits[name])
        for name in excess(tier, nearest.point)
    )
    return Closest(nearest.index, nearest.result, nearest.point, over)
