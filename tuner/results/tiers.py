"""What a study is after: tiers of service, what is sold in each, the axes of the front. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import asinh, exp, log, sinh

from tuner.config.groups.objective import Axis, ObjectiveConfig, Slo, Tier
from tuner.metrics.catalogue import SIGNED
from tuner.trial.result import OperatingPoint, TrialResult

UNKNOWN = math.inf  # the shortfall of a figure that was not measured: it can't be promised


@dataclass(frozen=True, slots=True)
class Winner:
    """The best operating point inside a tier; `index` is that of its result.

    `throughput`: the metric that it is judged by, in its unit.
    """

    index: int
    result: TrialResult
    point: OperatingPoint
    throughput: float


@dataclass(frozen=True, slots=True)
class Closest:
    """No operating point is inside the tier: the nearest one, if any, and what it breaks."""

    index: int | None = None
    result: TrialResult | None = None
    point: OperatingPoint | None = None
    over: tuple[tuple[str, float, float], ...] = ()  # metric, measured, promised
    unknown: str = ""  # why none of the points inside can be judged

    def __str__(self) -> str:
        if self.unknown:
            return f"can't be judged: {self.unknown}"
        if self.point is None:
            return "can't be met: nothing valid was measured"
        misses = (
            f"{name} {'unknown' if math.isinf(value) else f'{value:.4g}'} ({limit:g} allowed)"
            for name, value, limit in self.over
        )
        return f"can't be met; the closest was {self.point.load}: {', '.join(misses)}"


def shortfall(tier: Tier, point: OperatingPoint) -> dict[str, float]:
    """How far each broken promise is off, relative to it; inf where the figure is not known.

    The error rate is a share already: its shortfall is the plain difference.
    """
    off: dict[str, float] = {}
    for name, limit in tier.limits().items():
        value = point.metrics.get(name)
        if value is None:
            off[name] = UNKNOWN
        elif value > limit:
            off[name] = value - limit if name == "error_rate" else value / limit - 1
    return off


def in_tier(tier: Tier, point: OperatingPoint) -> bool:
    return not shortfall(tier, point)


def tier_values(slo: Slo, objective: ObjectiveConfig, result: TrialResult) -> dict[str, float]:
    """For each tier how good the trial is in it: more is better. 0: nothing can be sold there."""
    winners = best_per_tier(slo, objective, [result])
    return {
        name: worth(objective.sold, winner.throughput) if isinstance(winner, Winner) else 0.0
        for name, winner in winners.items()
    }


def worth(sold: Axis, value: float) -> float:
    """What samplers maximise, above 0: the value itself; of one that is minimised (joules or dollars a token)
    its reciprocal, tokens a joule; of one that may be below 0 (margins) v + √(v² + 1), which orders alike.
    """
    if sold.direction == "min":
        return 1 / value
    return value if sold.metric not in SIGNED else exp(asinh(value))


def unworth(sold: Axis, worth: float) -> float:
    """The value that a worth was made of."""
    if sold.direction == "min":
        return 1 / worth
    return worth if sold.metric not in SIGNED else sinh(log(worth))


def best_per_tier(
    slo: Slo, objective: ObjectiveConfig, results: Sequence[TrialResult]
) -> dict[str, Winner | Closest]:
    """For each tier who serves it best; of equals the first."""
    sold = objective.sold
    found = [
        Winner(index, result, point, point.metrics.get(sold.metric) or 0.0)
        for index, result in enumerate(results)
        if result.status == "completed"
        for point in result.points
        if point.valid
    ]
    return {name: _best(tier, sold, found) for name, tier in slo.tiers.items()}


def _best(tier: Tier, sold: Axis, found: Sequence[Winner]) -> Winner | Closest:
    inside = [each for each in found if each.throughput and in_tier(tier, each.point)]
    if inside:
        return max(inside, key=lambda each: worth(sold, each.throughput))
    outside = [each for each in found if not in_tier(tier, each.point)]
    if len(outside) < len(found):
        return Closest(unknown=_unknown(tier, sold, found))
    if not outside:
        return Closest()
    return _closest(tier, min(outside, key=lambda each: _distance(tier, each, sold)))


def _unknown(tier: Tier, sold: Axis, found: Sequence[Winner]) -> str:
    point = next(each.point for each in found if in_tier(tier, each.point))
    why = point.reasons.get(sold.metric, "it was not measured, or is 0")
    return f"{sold.metric} of the points that keep the promises is not known: {why}"


def _distance(tier: Tier, each: Winner, sold: Axis) -> tuple[float, float, float]:
    """The worst broken promise first, then all of them; of equals the better one."""
    off = shortfall(tier, each.point).values()
    return max(off), sum(off), -worth(sold, each.throughput) if each.throughput else 0.0


def _closest(tier: Tier, nearest: Winner) -> Closest:
    limits, metrics = tier.limits(), nearest.point.metrics
    over = tuple(
        (name, UNKNOWN if (value := metrics.get(name)) is None else value, limits[name])
        for name in shortfall(tier, nearest.point)
    )
    return Closest(nearest.index, nearest.result, nearest.point, over)
