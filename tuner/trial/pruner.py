"""Whether a trial can still reach the front or be the best of a tier, told from the levels seen. Pure.

How a curve goes on is taken from how the curves of earlier trials of the study went between the same
loads. The assumptions, all on a logarithmic scale:
- the ratios of a metric between two loads are those of a draw from one normal distribution, jointly
  over metrics and loads; its mean and covariance are those of the earlier trials, so that what is yet
  to be seen is Student-t distributed around the nearest level seen (Geisser, Predictive Inference,
  1993, 9.1). The noise of a level is in these ratios already;
- nothing is taken for a bound: kernels that are slow at one user, or a queue before few places, do let
  the speed of a user rise with the load, and throughput more than in proportion;
- a metric that is not known of an earlier trial or of this one keeps its limit;
- no figure is 0 or less: of margins that may be, nothing is foretold, and no trial is stopped.
As a guard against ratios that are far from normal, the curve of each earlier trial is tried too; a kind
of curve of which there was none before is not covered by the risk, least of all far from the load seen.
A trial is looked at after each of its levels: look k may spend 1/2^k of the risk, so that all looks
together spend no more than the risk (Bonferroni, with most for the look that saves most).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

Floats = NDArray[np.float64]
Axis = tuple[str, Literal["max", "min"]]
Curve = Mapping[str, tuple[tuple[float, float], ...]]

FEWEST = 8  # earlier trials; with fewer no trial is stopped
_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class TierBar:
    """`best`: what the best trial reached inside the limits; None if none kept them."""

    limits: Mapping[str, float]
    best: float | None


@dataclass(frozen=True, slots=True)
class Hurdle:
    """What a trial has to get over: a snapshot of the study when the trial was asked for.

    `front`: points in the unit and order of the axes. `curves`: of each earlier trial, metric →
    (load, value) pairs whose loads rise. `noise`: relative standard deviation of a level's figure.
    `first_load`: the load to look at first, in users or requests per second.
    """

    axes: tuple[Axis, ...]
    front: tuple[tuple[float, ...], ...]
    sold: Axis  # what tiers are judged by
    tiers: tuple[TierBar, ...]
    curves: tuple[Curve, ...]
    risk: float = 0.05
    noise: float = 0.03
    first_load: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A measured level. No metrics: it is not valid."""

    load: float
    metrics: Mapping[str, float | None]


_HURDLE: TypeAdapter[Hurdle] = TypeAdapter(Hurdle)


def to_json(hurdle: Hurdle) -> str:
    return _HURDLE.dump_json(hurdle).decode()


def from_json(text: str) -> Hurdle:
    return _HURDLE.validate_json(text)


def verdict(hurdle: Hurdle, seen: Sequence[Seen], remaining: Sequence[float]) -> str:
    """Why the trial is to be stopped; empty: it is not.

    Stopped is a trial for which, with probability ≥ 1 − risk, none of the `remaining` loads would put it
    on the front or make it the best of a tier, and none of those seen did.
    """
    if not remaining or not _has_logarithms(hurdle) or over(hurdle, seen):
        return ""
    chance = reach_chance(hurdle, seen, remaining)
    if chance is None or chance > _allowed(hurdle, seen):
        return ""
    return f"can't reach the front (risk {100 * hurdle.risk:g} %)"


def over(hurdle: Hurdle, seen: Sequence[Seen]) -> bool:
    """Whether a level seen is on the front, or the best of a tier."""
    for each in seen:
        known = {m: v for m, v in each.metrics.items() if v is not None and v > 0}
        if _needed(hurdle) <= known.keys():
            logs = {metric: np.full((1, 1), math.log(value)) for metric, value in known.items()}
            if bool(_reached(hurdle, logs).any()):
                return True
    return False


def reach_chance(hurdle: Hurdle, seen: Sequence[Seen], remaining: Sequence[float]) -> float | None:
    """The probability that any of the remaining loads reaches the front or improves a tier.

    None: too little is known to tell. What is too much for this look is not told exactly.
    """
    needed = _needed(hurdle)
    curves = [curve for curve in hurdle.curves if needed <= curve.keys()]
    if len(curves) < FEWEST or not hurdle.front:
        return None
    known = {m: _predicted(m, curves, seen, remaining) for m in _metrics(hurdle)}
    goes_on = {metric: rows for metric, rows in known.items() if rows is not None}
    if not needed <= goes_on.keys():
        return None
    rows = np.stack(list(goes_on.values()), axis=1)

    def share(rows: Floats) -> float:
        logs = {metric: rows[:, i, :] for i, metric in enumerate(goes_on)}
        return float(_reached(hurdle, logs).any(axis=1).mean())

    plain = share(rows)
    if plain > _allowed(hurdle, seen):
        return plain
    return max(plain, share(_draws(rows, hurdle.noise)))


def _allowed(hurdle: Hurdle, seen: Sequence[Seen]) -> float:
    """The share of the risk for the look after these levels."""
    return float(hurdle.risk / 2 ** len(seen))


def _needed(hurdle: Hurdle) -> set[str]:
    """What must be known of a level to hold it against the hurdle."""
    return {metric for metric, _ in (*hurdle.axes, *([hurdle.sold] if hurdle.tiers else []))}


def _metrics(hurdle: Hurdle) -> list[str]:
    limits = {metric for tier in hurdle.tiers for metric, most in tier.limits.items() if most > 0}
    return sorted(_needed(hurdle) | limits)


def _predicted(
    metric: str, curves: Sequence[Curve], seen: Sequence[Seen], remaining: Sequence[float]
) -> Floats | None:
    """Logarithms, one row for each curve, one column for each load: as that curve would go on."""
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
        # Beyond its ends a curve goes on as it was there: a ladder ends where nothing is to be gained.
        rows.append(base + np.interp(at, loads, values) - np.interp(base_at, loads, values))
    return np.array(rows)


def _draws(rows: Floats, noise: float) -> Floats:
    """Draws from the predictive distribution of the rows' mean and covariance: (draws, *rows.shape[1:]).

    Each draw is a random combination of the rows' deviations, which has their covariance.
    """
    count = len(rows)
    mean = rows.mean(axis=0)
    off = rows - mean
    spread = np.sqrt((off**2).sum(axis=0) / (count - 1))
    least = math.sqrt(2) * noise
    with np.errstate(divide="ignore"):
        grown = np.where(spread > 0, np.maximum(1.0, least / spread), 0.0)
    random = np.random.default_rng(0)  # the same levels get the same verdict
    freedom = count - 1
    scale = np.sqrt(freedom / random.chisquare(freedom, _DRAWS) * (1 + 1 / count) / freedom)
    weights = random.standard_normal((_DRAWS, count)) * scale[:, None]
    return np.asarray(mean + np.tensordot(weights, off * grown, axes=1), np.float64)


def _reached(hurdle: Hurdle, logs: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Of logarithms of the same shape by metric: which of them get over the hurdle."""
    signs = np.array([_sign(axis) for axis in hurdle.axes])
    gains = np.stack([logs[metric] for metric, _ in hurdle.axes], axis=-1) * signs
    front = np.log(np.array(hurdle.front).reshape(-1, len(signs))) * signs
    reached = ~(front >= gains[..., None, :]).all(axis=-1).any(axis=-1)
    sold = _sign(hurdle.sold)
    for tier in hurdle.tiers:
        inside = np.ones(reached.shape, np.bool_)
        if tier.best is not None:
            inside = sold * logs[hurdle.sold[0]] > sold * math.log(tier.best)
        for metric, limit in tier.limits.items():
            if metric in logs and limit > 0:
                inside &= logs[metric] <= math.log(limit)
        reached |= inside
    return np.asarray(reached, np.bool_)


def _sign(axis: Axis) -> float:
    return 1.0 if axis[1] == "max" else -1.0


def _has_logarithms(hurdle: Hurdle) -> bool:
    bests = [tier.best for tier in hurdle.tiers if tier.best is not None]
    return min([*(value for point in hurdle.front for value in point), *bests], default=1.0) > 0
