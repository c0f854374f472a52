"""Stops a trial whose remaining levels can't matter: neither reach the front nor be the best of a tier. Pure.

The rest of a curve is predicted from how the curves of earlier trials of the study went between the same
loads. Assumptions, all on a logarithmic scale:
- the ratios of a metric between two loads are draws from one multivariate normal distribution over metrics
  and loads, with the mean and covariance of the earlier trials; the prediction around the nearest measured
  level is therefore Student-t (Geisser, Predictive Inference, 1993, 9.1). These ratios include the noise of
  a level;
- no monotonicity: kernels that are slow at one user, or a queue before few slots, can raise a user's speed
  with the load, and throughput more than in proportion;
- the limit of a metric that an earlier trial or this one lacks counts as met;
- all figures are above 0. Where one may be negative (margins), nothing is predicted and no trial is pruned.
Against ratios that are far from normal, the curve of each earlier trial is tried as well. The risk does not
cover a shape of curve that the study has not seen, least of all far from the measured loads.
Each level is followed by one look: look k may spend 1/2^k of the risk, so all looks together stay within it
(Bonferroni; the first look, which saves most, gets most).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from loadgen import Adaptive, Level
from loadgen.control.load_plan import listed_loads
from loadgen.workload.workload import Workload, level_count

Floats = NDArray[np.float64]
Axis = tuple[str, Literal["max", "min"]]
Curve = Mapping[str, tuple[tuple[float, float], ...]]

TRIALS_MIN = 8  # earlier trials; with fewer no trial is pruned
_DRAWS = 4000
_STEPS_PER_OCTAVE = 2  # of the loads that an adaptive ladder may choose


@dataclass(frozen=True, slots=True)
class TierBest:
    """`best`: the best value so far among points within the limits; None if there is none."""

    limits: Mapping[str, float]
    best: float | None


@dataclass(frozen=True, slots=True)
class PruningBaseline:
    """What a trial must improve on: a snapshot of the study when the trial was proposed.

    `front`: points, each with one value per axis, in the axes' units. `target`: the metric that ranks trials
    inside a tier. `curves`: one per earlier trial, metric → (load, value) pairs in rising order of load.
    `noise`: relative standard deviation of one level's figure. `first_load`: the load to measure first, in
    users or requests per second.
    """

    axes: tuple[Axis, ...]
    front: tuple[tuple[float, ...], ...]
    target: Axis
    tiers: tuple[TierBest, ...]
    curves: tuple[Curve, ...]
    risk: float = 0.05
    noise: float = 0.03
    first_load: float | None = None


@dataclass(frozen=True, slots=True)
class MeasuredLevel:
    """A level of the running trial, at `load` users or requests/s. No metrics: the level is invalid."""

    load: float
    metrics: Mapping[str, float | None]


_BASELINE: TypeAdapter[PruningBaseline] = TypeAdapter(PruningBaseline)


def to_json(baseline: PruningBaseline) -> str:
    """For the worker that runs the trial."""
    return _BASELINE.dump_json(baseline).decode()


def from_json(text: str) -> PruningBaseline:
    """The inverse of `to_json`."""
    return _BASELINE.validate_json(text)


def prune_reason(
    baseline: PruningBaseline, seen: Sequence[MeasuredLevel], remaining: Sequence[float]
) -> str:
    """Why the trial is pruned; empty if it goes on.

    A trial is pruned if no measured level is on the front or the best of a tier, and with probability
    ≥ 1 − risk none of the `remaining` loads would be.
    """
    if not remaining or not _has_logarithms(baseline) or improves(baseline, seen):
        return ""
    probability = reach_probability(baseline, seen, remaining)
    if probability is None or probability > _allowed(baseline, seen):
        return ""
    return f"can't reach the front (risk {100 * baseline.risk:g} %)"


def improves(baseline: PruningBaseline, seen: Sequence[MeasuredLevel]) -> bool:
    """Whether a measured level is on the front or the best of a tier."""
    for each in seen:
        known = {m: v for m, v in each.metrics.items() if v is not None and v > 0}
        if _needed(baseline) <= known.keys():
            logs = {metric: np.full((1, 1), math.log(value)) for metric, value in known.items()}
            if bool(_reached(baseline, logs).any()):
                return True
    return False


def reach_probability(
    baseline: PruningBaseline, seen: Sequence[MeasuredLevel], remaining: Sequence[float]
) -> float | None:
    """The probability that any remaining load reaches the front or improves a tier.

    None with too few earlier curves. A value above what this look may spend is a lower bound.
    """
    needed = _needed(baseline)
    curves = [curve for curve in baseline.curves if needed <= curve.keys()]
    if len(curves) < TRIALS_MIN or not baseline.front:
        return None
    known = {m: _predicted(m, curves, seen, remaining) for m in _metrics(baseline)}
    predicted = {metric: rows for metric, rows in known.items() if rows is not None}
    if not needed <= predicted.keys():
        return None
    rows = np.stack(list(predicted.values()), axis=1)

    def share(rows: Floats) -> float:
        logs = {metric: rows[:, i, :] for i, metric in enumerate(predicted)}
        return float(_reached(baseline, logs).any(axis=1).mean())

    plain = share(rows)
    if plain > _allowed(baseline, seen):
        return plain
    return max(plain, share(_draws(rows, baseline.noise)))


def _allowed(baseline: PruningBaseline, seen: Sequence[MeasuredLevel]) -> float:
    """The share of the risk that the look after these levels may spend."""
    return float(baseline.risk / 2 ** len(seen))


def _needed(baseline: PruningBaseline) -> set[str]:
    """The metrics without which a level can't be compared with the baseline."""
    return {
        metric for metric, _ in (*baseline.axes, *([baseline.target] if baseline.tiers else []))
    }


def _metrics(baseline: PruningBaseline) -> list[str]:
    limits = {metric for tier in baseline.tiers for metric, most in tier.limits.items() if most > 0}
    return sorted(_needed(baseline) | limits)


def _predicted(
    metric: str, curves: Sequence[Curve], seen: Sequence[MeasuredLevel], remaining: Sequence[float]
) -> Floats | None:
    """Logarithms of the predicted values, (curves, loads): the trial continued like each earlier curve."""
    bases = [
        (math.log(each.load), math.log(value))
        for each in seen
        if (value := each.metrics.get(metric)) is not None and value > 0
    ]
    if not bases or not all(metric in curve for curve in curves):
        return None
    at = np.log(remaining)
    nearest = [min(bases, key=lambda base: abs(base[0] - load)) for load in at]
    base_at, base = np.array(nearest).T
    rows = []
    for curve in curves:
        loads, values = np.log(np.array(curve[metric])).T
        # `interp` extends a curve flat beyond its ends: a ladder ends where more load gains nothing.
        rows.append(base + np.interp(at, loads, values) - np.interp(base_at, loads, values))
    return np.array(rows)


def _draws(rows: Floats, noise: float) -> Floats:
    """Draws from the predictive distribution with the rows' mean and covariance: (draws, *rows.shape[1:]).

    Each draw is a random combination of the rows' deviations, and so has their covariance.
    """
    count = len(rows)
    mean = rows.mean(axis=0)
    off = rows - mean
    spread = np.sqrt((off**2).sum(axis=0) / (count - 1))
    least = math.sqrt(2) * noise
    with np.errstate(divide="ignore"):
        grown = np.where(spread > 0, np.maximum(1.0, least / spread), 0.0)
    random = np.random.default_rng(0)  # same levels, same decision
    freedom = count - 1
    scale = np.sqrt(freedom / random.chisquare(freedom, _DRAWS) * (1 + 1 / count) / freedom)
    weights = random.standard_normal((_DRAWS, count)) * scale[:, None]
    return np.asarray(mean + np.tensordot(weights, off * grown, axes=1), np.float64)


def _reached(baseline: PruningBaseline, logs: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Which points reach the front or improve a tier. `logs`: metric → logarithms, all of one shape."""
    signs = np.array([_sign(axis) for axis in baseline.axes])
    gains = np.stack([logs[metric] for metric, _ in baseline.axes], axis=-1) * signs
    front = np.log(np.array(baseline.front).reshape(-1, len(signs))) * signs
    reached = ~(front >= gains[..., None, :]).all(axis=-1).any(axis=-1)
    sign = _sign(baseline.target)
    for tier in baseline.tiers:
        inside = np.ones(reached.shape, np.bool_)
        if tier.best is not None:
            inside = sign * logs[baseline.target[0]] > sign * math.log(tier.best)
        for metric, limit in tier.limits.items():
            if metric in logs and limit > 0:
                inside &= logs[metric] <= math.log(limit)
        reached |= inside
    return np.asarray(reached, np.bool_)


def _sign(axis: Axis) -> float:
    return 1.0 if axis[1] == "max" else -1.0


def _has_logarithms(baseline: PruningBaseline) -> bool:
    bests = [tier.best for tier in baseline.tiers if tier.best is not None]
    return min([*(value for point in baseline.front for value in point), *bests], default=1.0) > 0


class Scored(Protocol):
    """A scored level: an operating point."""

    @property
    def valid(self) -> bool:
        """Whether its metrics can be trusted."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Metric → value."""


def level_pruner(
    baseline: PruningBaseline, workload: Workload, score: Callable[[Level], Scored]
) -> Callable[[Level], str]:
    """For `loadgen.run(after_level=…)`: the reason to prune with the levels measured; empty to go on."""
    seen: list[MeasuredLevel] = []

    def reason(level: Level) -> str:
        if level.load_value is None:
            return ""
        point = score(level)
        if level.repeats is not None:  # measured again: what it repeats decides nothing
            seen[:] = [each for each in seen if each.load != level.load_value]
        seen.append(MeasuredLevel(level.load_value, point.metrics if point.valid else {}))
        done = {each.load for each in seen}
        left = [load for load in possible_loads(workload) if load not in done]
        if len(seen) == level_count(workload) or not (why := prune_reason(baseline, seen, left)):
            return ""
        most = "up to " if isinstance(workload.arrival, Adaptive) else ""
        return f"after {len(seen)} of {most}{level_count(workload)} levels: {why}"

    return reason


def possible_loads(workload: Workload) -> tuple[float, ...]:
    """Loads that the workload may measure, in users or requests/s; in rising order for an adaptive ladder."""
    arrival = workload.arrival
    if not isinstance(arrival, Adaptive):
        return listed_loads(arrival)
    steps = math.ceil(_STEPS_PER_OCTAVE * math.log2(arrival.highest / arrival.lowest)) + 1
    ratio = arrival.highest / arrival.lowest
    return tuple(arrival.lowest * ratio ** (i / max(steps - 1, 1)) for i in range(steps))
