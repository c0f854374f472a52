"""Which points on the curve of speed against throughput earn most: the zone, and each tier's best. Pure.

The zone is all operating points whose earnings are within a share of the best; without prices the report shows
the knee of the front instead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np

from tuner.config.groups.economics import Economics
from tuner.config.groups.objective import Axis, Slo, Tier
from tuner.metrics.derive import earned
from tuner.metrics.sensitivity import Band, Where, band, inputs, moved, uncertain
from tuner.results.pareto import FrontPoint, non_dominated, pareto_set
from tuner.results.tiers import in_tier
from tuner.trial.result import OperatingPoint, TrialResult

USER = "interactivity_tok_s_user"
RATE = "throughput_output_tok_s_device"
AXES = (Axis(metric=USER), Axis(metric=RATE))


@dataclass(frozen=True, slots=True)
class Spot:
    """A valid operating point and what it earns at the stated prices. `index`: of its result."""

    index: int
    result: TrialResult
    point: OperatingPoint
    tok_s_user: float
    tok_s_device: float
    earns: float


@dataclass(frozen=True, slots=True)
class GoldilocksZone:
    """The points that earn most, by the metric `figure`.

    `within`: the share of the best that the zone spans. `members`: fastest last. `band`: of the best point's
    earnings, over the uncertain inputs. `moves`: (path, value, point): with that input at that end of its range
    another point is the best.
    """

    figure: str
    within: float
    spots: tuple[Spot, ...]
    best: Spot
    members: tuple[Spot, ...]
    band: Band | None
    moves: tuple[tuple[str, float, Spot], ...]

    @property
    def speeds(self) -> tuple[float, float]:
        """From the slowest to the fastest member, in tok/s per user."""
        return self.members[0].tok_s_user, self.members[-1].tok_s_user

    @property
    def reach(self) -> tuple[float, float]:
        """From the slowest to the fastest best point over all cases of the inputs, in tok/s per user."""
        found = [self.best.tok_s_user, *(spot.tok_s_user for _, _, spot in self.moves)]
        return min(found), max(found)


@dataclass(frozen=True, slots=True)
class TierEarnings:
    """The point that earns most in a tier, at the tier's price; `bands`: of its main economic metrics."""

    tier: str
    spot: Spot
    bands: dict[str, Band | None]


TIER_METRICS = (
    "revenue_usd_device_hour",
    "margin_usd_device_hour",
    "cost_usd_per_m_output_tok",
    "break_even_utilisation",
)


def zone(results: Sequence[TrialResult], economics: Economics) -> GoldilocksZone | None:
    """The zone of all trials; None where no measured point can be priced."""
    figure = economics.zone.figure
    spots = _spots(results, economics, figure)
    if not spots:
        return None
    best = _best(spots)
    floor = best.earns - economics.zone.within * abs(best.earns)
    members = tuple(spot for spot in spots if spot.earns >= floor)
    moves, possible = [], _possible_best(spots)
    for path in uncertain(economics):
        for end in (0, 1):
            case = moved(economics, {path: end})
            there = _best(
                [
                    _repriced(spot, case, figure)
                    for spot in (possible if _prices_rise(case) else spots)
                ]
            )
            if (there.index, there.point.level) != (best.index, best.point.level):
                moves.append((".".join(map(str, path)), _value(case, path), there))
    found = band(economics, lambda case: _earns(best.result, best.point, case, figure))
    return GoldilocksZone(figure, economics.zone.within, spots, best, members, found, tuple(moves))


def tier_earnings(
    results: Sequence[TrialResult], slo: Slo, economics: Economics
) -> dict[str, TierEarnings | None]:
    """Tier → the point inside it that earns most by the zone's figure; None: no point is inside."""
    return {name: _in_tier(results, name, tier, economics) for name, tier in slo.tiers.items()}


def _in_tier(
    results: Sequence[TrialResult], name: str, tier: Tier, economics: Economics
) -> TierEarnings | None:
    figure = economics.zone.figure
    inside = [
        spot for spot in _spots(results, economics, figure, name) if in_tier(tier, spot.point)
    ]
    if not inside:
        return None
    spot = _best(inside)

    def of(metric: str) -> Callable[[Economics], float | None]:
        return lambda case: _earns(spot.result, spot.point, case, metric, name)

    return TierEarnings(
        name, spot, {metric: band(economics, of(metric)) for metric in (figure, *TIER_METRICS)}
    )


def knee(results: Sequence[TrialResult]) -> FrontPoint | None:
    """The point of the front furthest above the chord between its ends, both axes logarithmic.

    The Kneedle algorithm (Satopää et al., ICDCSW 2011) on a measured front, without smoothing. None: fewer than
    three points, or none above the chord.
    """
    front = [each for each in reversed(pareto_set(results, AXES)) if min(each.values) > 0]
    if len(front) < 3:
        return None
    heights = chord_heights([each.values for each in front])
    top = max(range(len(front)), key=heights.__getitem__)
    return front[top] if heights[top] > 1e-9 else None


def chord_heights(front: Sequence[Sequence[float]]) -> list[float]:
    """How far each point is above the chord from first to last, by logarithms scaled to 1; x rises, y falls."""
    (x0, y0), (x1, y1) = (map(log, front[0]), map(log, front[-1]))
    return [(log(x) - x0) / (x1 - x0) - (log(y) - y0) / (y1 - y0) for x, y in front]


def _spots(
    results: Sequence[TrialResult], economics: Economics, figure: str, tier: str | None = None
) -> tuple[Spot, ...]:
    return tuple(
        sorted(_priced(results, economics, figure, tier), key=lambda spot: spot.tok_s_user)
    )


def _priced(
    results: Sequence[TrialResult], economics: Economics, figure: str, tier: str | None
) -> Iterator[Spot]:
    for index, result in enumerate(results):
        for point in result.points if result.status == "completed" else ():
            user, rate = point.metrics.get(USER), point.metrics.get(RATE)
            earns = _earns(result, point, economics, figure, tier) if point.valid else None
            if user is not None and rate is not None and earns is not None:
                yield Spot(index, result, point, user, rate, earns)


def _prices_rise(economics: Economics) -> bool:
    """Whether the price of a token never falls with speed."""
    prices = economics.prices
    factors = [step.factor.value for step in (() if prices is None else prices.premium)]
    return factors == sorted(factors)


def _possible_best(spots: Sequence[Spot]) -> list[Spot]:
    """The points that may earn most at some price, where prices rise with speed.

    No other point is at least as fast, with as many tokens and as few watts.
    """
    names = (USER, RATE, "throughput_total_tok_s_device", "power_w_device")
    columns = {name: [spot.point.metrics.get(name) for spot in spots] for name in names}
    known = {name: each for name, each in columns.items() if None not in each}
    rows = np.array(list(known.values()), dtype=float).T
    kept = non_dominated(rows, ["min" if name == names[-1] else "max" for name in known])
    return [spot for spot, keep in zip(spots, kept, strict=True) if keep]


def _repriced(spot: Spot, economics: Economics, figure: str) -> Spot:
    earns = _earns(spot.result, spot.point, economics, figure)
    assert earns is not None, "a point that has a price has one in every case"
    return replace(spot, earns=earns)


def _value(economics: Economics, path: Where) -> float:
    return inputs(economics)[".".join(map(str, path))].value


def _earns(
    result: TrialResult,
    point: OperatingPoint,
    economics: Economics,
    figure: str,
    tier: str | None = None,
) -> float | None:
    config = result.config
    return earned(point.metrics, config.devices, config.hardware, economics, tier)[figure]


def _best(spots: Sequence[Spot]) -> Spot:
    return max(spots, key=lambda spot: (spot.earns, spot.tok_s_user))
