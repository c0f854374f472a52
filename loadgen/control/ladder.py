"""Load levels chosen by what the ones before them showed: the knee, and each tier's highest load. Pure.

Loads grow fourfold until throughput gains no more and no tier is kept; from then on each new level
halves, on a logarithmic scale, the widest gap in what is still asked: between the highest load that
keeps a tier and the lowest that breaks it, or between the loads on both sides of the knee. Where it is
said which load to begin with, that one stands in for the step of the climb that is nearest to it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadgen.workload.arrivals import Adaptive

_GROWTH = 4.0
_STANDS_IN = 1.5  # a load above a step of the climb by no more than this is that step
_RATE_DIGITS = 3
_LARGEST = 700.0  # that a float can be an exponential of


@dataclass(frozen=True, slots=True)
class Rung:
    """A measured level. `inside`: whether each tier's limits were kept; None where that is not known."""

    load: float
    throughput: float
    inside: Mapping[str, bool | None]
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
    """The next load to measure; None when all is known that was asked, or the levels are used up.

    `first`: the load to begin with, brought into the range of the ladder.
    """
    if not done:
        return _shaped(config, config.lowest if first is None else first)
    if len(done) >= config.levels:
        return None
    rungs = sorted(done, key=lambda rung: rung.load)
    if first is not None and (skipped := _skipped(config, rungs, tiers)) is not None:
        return skipped
    if (grown := _grown(config, rungs, tiers)) is not None:
        return grown
    gaps = [_tier_gap(rungs, tier) for tier in tiers] + [_knee_gap(config, rungs)]
    known = {rung.load for rung in rungs}
    for gap in sorted((g for g in gaps if g is not None), key=lambda g: -g.ratio):
        if gap.ratio > config.resolution:
            load = _shaped(config, math.sqrt(gap.low * gap.high))
            if load not in known and gap.low < load < gap.high:
                return load
    return None


def highest_inside(done: Sequence[Rung], tier: str) -> float | None:
    """The highest load that keeps a tier, where the measurements contradict each other the fewest times.

    A tier is kept up to some load and broken above it. Noise may put a measured level on the wrong
    side: the split with the fewest such levels is taken, of several equal ones the lowest.
    """
    rungs = sorted(done, key=lambda rung: rung.load)
    kept = rungs[: _split(rungs, tier)]
    passed = [rung.load for rung in kept if rung.inside.get(tier)]
    return passed[-1] if passed else None


def knee(config: Adaptive, done: Sequence[Rung]) -> float | None:
    """The lowest load with nearly the most throughput: twice the load gains less than `knee_gain`."""
    rungs = sorted(done, key=lambda rung: rung.load)
    if not rungs:
        return None
    return rungs[_knee_index(config, rungs)].load


def _skipped(config: Adaptive, rungs: Sequence[Rung], tiers: Sequence[str]) -> float | None:
    """A step of the climb from the lowest load that was left out below the load it began with."""
    lowest = _shaped(config, config.lowest)
    if rungs[0].load > lowest:
        return lowest
    for count, (below, above) in enumerate(pairwise(rungs), start=1):
        if above.load > below.load * _GROWTH * _STANDS_IN:
            return _grown(config, rungs[:count], tiers)
    return None


def _grown(config: Adaptive, rungs: Sequence[Rung], tiers: Sequence[str]) -> float | None:
    """Four times the highest load, as long as there may be something to find above it."""
    top = rungs[-1]
    if top.load >= config.highest or top.saturated:
        return None
    flat = len(rungs) > 1 and _gain_per_doubling(rungs[-2], top) < config.knee_gain
    if flat and not any(top.inside.get(tier) for tier in tiers):
        return None
    load = _shaped(config, min(top.load * _GROWTH, config.highest))
    return load if load > top.load else None


def _gain_per_doubling(below: Rung, above: Rung) -> float:
    if below.throughput <= 0:
        return math.inf
    if above.throughput <= 0:
        return -1.0
    doublings = math.log2(above.load / below.load)
    growth = (math.log(above.throughput) - math.log(below.throughput)) / doublings
    return math.expm1(min(growth, _LARGEST))


def _split(rungs: Sequence[Rung], tier: str) -> int:
    """How many of the lowest loads keep the tier, by the fewest contradictions; ties to the fewest."""
    verdicts = [rung.inside.get(tier) for rung in rungs]

    def contradictions(count: int) -> int:
        return verdicts[:count].count(False) + verdicts[count:].count(True)

    return min(range(len(rungs) + 1), key=lambda count: (contradictions(count), count))


def _tier_gap(rungs: Sequence[Rung], tier: str) -> _Gap | None:
    split = _split(rungs, tier)
    if split in (0, len(rungs)):
        return None
    return _Gap(rungs[split - 1].load, rungs[split].load)


def _knee_index(config: Adaptive, rungs: Sequence[Rung]) -> int:
    most = max(rung.throughput for rung in rungs)
    top = next(i for i, rung in enumerate(rungs) if rung.throughput == most)
    for index, rung in enumerate(rungs[:top]):
        doublings = math.log2(rungs[top].load / rung.load)
        if rung.throughput * (1 + config.knee_gain) ** min(1.0, doublings) >= most:
            return index
    return top


def _knee_gap(config: Adaptive, rungs: Sequence[Rung]) -> _Gap | None:
    index = _knee_index(config, rungs)
    if index == 0:
        return None
    return _Gap(rungs[index - 1].load, rungs[index].load)


def _shaped(config: Adaptive, load: float) -> float:
    """Whole users; rates to three digits."""
    bounded = min(max(load, config.lowest), config.highest)
    if config.loop == "closed":
        return float(max(1, round(bounded)))
    return min(max(float(f"{bounded:.{_RATE_DIGITS}g}"), config.lowest), config.highest)
