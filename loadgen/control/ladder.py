"""Chooses each load level from the results of those before: the knee, and each tier's highest load. Pure.

Loads grow fourfold until throughput stops growing and no tier's SLO is met. From then on each new level
bisects, on a logarithmic scale, the widest open gap: between the highest load that meets a tier's SLO and
the lowest that does not, or between the loads on both sides of the knee. A given first load replaces the
nearest step of the climb.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadgen.workload.arrivals import Adaptive

_GROWTH = 4.0
_STEP_TOLERANCE = 1.5  # a load within this factor above a step of the climb replaces it
_RATE_DIGITS = 3
_EXPONENT_MAX = 700.0  # of exp() in a float


@dataclass(frozen=True, slots=True)
class Rung:
    """A measured level. `meets_slo`: by tier; None where that is unknown."""

    load: float
    throughput: float
    meets_slo: Mapping[str, bool | None]
    saturated: bool = False


@dataclass(frozen=True, slots=True)
class _Gap:
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.high / self.low


def next_load(
    config: Adaptive, done: Sequence[Rung], tiers: Sequence[str], first: float | None = None
) -> float | None:
    """The next load to measure; None when every gap is closed or no level is left.

    `first`: the load to begin with, clipped to the range of the ladder.
    """
    if not done:
        return _rounded(config, config.lowest if first is None else first)
    if len(done) >= config.levels:
        return None
    rungs = sorted(done, key=lambda rung: rung.load)
    if first is not None and (skipped := _skipped(config, rungs, tiers)) is not None:
        return skipped
    if (grown := _grown(config, rungs, tiers)) is not None:
        return grown
    gaps = [_tier_gap(rungs, tier) for tier in tiers] + [_knee_gap(config, rungs)]
    measured = {rung.load for rung in rungs}
    for gap in sorted((g for g in gaps if g is not None), key=lambda g: -g.ratio):
        if gap.ratio > config.resolution:
            load = _rounded(config, math.sqrt(gap.low * gap.high))
            if load not in measured and gap.low < load < gap.high:
                return load
    return None


def _skipped(config: Adaptive, rungs: Sequence[Rung], tiers: Sequence[str]) -> float | None:
    """A step of the climb that was left out below the first load."""
    lowest = _rounded(config, config.lowest)
    if rungs[0].load > lowest:
        return lowest
    for count, (below, above) in enumerate(pairwise(rungs), start=1):
        if above.load > below.load * _GROWTH * _STEP_TOLERANCE:
            return _grown(config, rungs[:count], tiers)
    return None


def _grown(config: Adaptive, rungs: Sequence[Rung], tiers: Sequence[str]) -> float | None:
    """Four times the highest load, unless nothing more can be found above it."""
    top = rungs[-1]
    if top.load >= config.highest or top.saturated:
        return None
    flat = len(rungs) > 1 and _gain_per_doubling(rungs[-2], top) < config.knee_gain
    if flat and not any(top.meets_slo.get(tier) for tier in tiers):
        return None
    load = _rounded(config, min(top.load * _GROWTH, config.highest))
    return load if load > top.load else None


def _gain_per_doubling(below: Rung, above: Rung) -> float:
    if below.throughput <= 0:
        return math.inf
    if above.throughput <= 0:
        return -1.0
    doublings = math.log2(above.load / below.load)
    growth = (math.log(above.throughput) - math.log(below.throughput)) / doublings
    return math.expm1(min(growth, _EXPONENT_MAX))


def count_meeting(rungs: Sequence[Rung], tier: str) -> int:
    """How many of the lowest loads meet the tier's SLO; `rungs` in rising order of load.

    The SLO is met up to some load. Noise may put a level on the wrong side: the count with the fewest such
    levels is taken, of equal ones the lowest.
    """
    verdicts = [rung.meets_slo.get(tier) for rung in rungs]

    def contradictions(count: int) -> int:
        return verdicts[:count].count(False) + verdicts[count:].count(True)

    return min(range(len(rungs) + 1), key=lambda count: (contradictions(count), count))


def _tier_gap(rungs: Sequence[Rung], tier: str) -> _Gap | None:
    split = count_meeting(rungs, tier)
    if split in (0, len(rungs)):
        return None
    return _Gap(rungs[split - 1].load, rungs[split].load)


def knee_index(config: Adaptive, rungs: Sequence[Rung]) -> int:
    """The lowest load with nearly the most throughput: twice the load gains less than `knee_gain`.

    `rungs` in rising order of load.
    """
    most = max(rung.throughput for rung in rungs)
    top = next(i for i, rung in enumerate(rungs) if rung.throughput == most)
    for index, rung in enumerate(rungs[:top]):
        doublings = math.log2(rungs[top].load / rung.load)
        if rung.throughput * (1 + config.knee_gain) ** min(1.0, doublings) >= most:
            return index
    return top


def _knee_gap(config: Adaptive, rungs: Sequence[Rung]) -> _Gap | None:
    index = knee_index(config, rungs)
    if index == 0:
        return None
    return _Gap(rungs[index - 1].load, rungs[index].load)


def _rounded(config: Adaptive, load: float) -> float:
    """Within the range; users as whole numbers, rates to three digits."""
    bounded = min(max(load, config.lowest), config.highest)
    if config.loop == "closed":
        return float(max(1, round(bounded)))
    return min(max(float(f"{bounded:.{_RATE_DIGITS}g}"), config.lowest), config.highest)
