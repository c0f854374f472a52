"""The covariance of curves: how much two configurations at two loads have in common. Pure.

    k = [f · Matérn52(x, x'; a length for each dimension) + a · mean over dimensions of kⱼ
         + p · mean over pairs of dimensions of kᵢ kⱼ] · [ρ + (1 − ρ) · RBF(u, u')]
        + l · ⟨φ(x, u), φ(x', u')⟩ + ⟨t(u), t(u')⟩ + s · [same trial],   kⱼ = Matérn52(xⱼ, x'ⱼ)

x: a configuration as `encode` writes it; u: its load, scaled to [0, 1]. φ: linear in x, and in x times u; t: a
wide quadratic in u, the trend that all curves share. In the first bracket, f knows how all dimensions act
together, a each one's own effect, which is what a dozen trials can tell, and p what two do together: a pair
nobody tried stays in doubt. Matérn: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eq.
4.17; sums over pairs: Duvenaud et al., Additive Gaussian Processes (2011), by Newton's identity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 0.25  # ρ: what two loads of one configuration share however far apart they are
OWN_LENGTH = 0.8  # of kⱼ: about the whole of a dimension
TREND = 3.0  # standard deviation of the trend's coefficients: as good as free
JITTER = 1e-8
# Of the logarithms, after a length for each dimension: load length, f, a, l, noise, noise of a start, p.
_TAIL_MEAN = np.log([0.5, 1.0, 0.5, 1.0, 1e-2, 1e-2, 0.5])
_TAIL_SD = np.array([0.4, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7])
_LENGTH_MEAN, _LENGTH_SD = np.log(1.5), 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Dimensions:
    """Which columns of an encoded point belong to which dimension."""

    names: tuple[str, ...]
    columns: tuple[Ints, ...]

    @classmethod
    def of(cls, groups: Sequence[str]) -> "Dimensions":
        names = tuple(dict.fromkeys(groups))
        columns = tuple(np.flatnonzero(np.array(groups) == name) for name in names)
        return cls(names, columns)

    def distances2(self, x: Floats, y: Floats) -> Floats:
        """(dimensions, n, m) squared distances in each dimension."""
        apart = [((x[:, None, c] - y[None, :, c]) ** 2).sum(-1) for c in self.columns]
        return np.array(apart).reshape(len(self.columns), len(x), len(y))


class Tail(NamedTuple):
    """ρ's length of load, f, a, l, the noise of an observation, s and p: all but the dimensions' lengths."""

    load_length: float
    full: float
    additive: float
    slope: float
    noise: float
    start: float
    pairs: float


@dataclass(frozen=True, slots=True, eq=False)
class Hyper:
    """Logarithms of: a length for each dimension, then those of `_TAIL_MEAN`."""

    theta: Floats

    @classmethod
    def typical(cls, dimensions: int) -> "Hyper":
        return cls(np.concatenate([np.full(dimensions, _LENGTH_MEAN), _TAIL_MEAN]))

    @property
    def lengths(self) -> Floats:
        return np.asarray(np.exp(self.theta[: -len(_TAIL_MEAN)]))

    @property
    def tail(self) -> Tail:
        return Tail(*np.exp(self.theta[-len(_TAIL_MEAN) :]))

    @property
    def most(self) -> float:
        """What `configurations` is of one with itself."""
        tail = self.tail
        return float(tail.full + tail.additive + tail.pairs)


def linear(x: Floats, u: Floats) -> Floats:
    """φ: (n, 2 d) for rows of x (n, d) and u (n,)."""
    centred = x - 0.5
    both = np.hstack([centred, 2 * (u[:, None] - 0.5) * centred])
    return np.asarray(both * (2 / np.sqrt(x.shape[1])))


def trend(u: Floats) -> Floats:
    """t: (n, 3)"""
    centred = 2 * (u - 0.5)
    return np.asarray(TREND * np.stack([np.ones_like(u), centred, centred**2], 1))


def configurations(distances2: Floats, hyper: Hyper) -> Floats:
    """The first bracket: (n, m)."""
    tail = hyper.tail
    together = tail.full * _matern(_scaled(distances2, hyper))
    alone, both = effects(distances2)
    return np.asarray(together + tail.additive * alone + tail.pairs * both)


def effects(distances2: Floats) -> tuple[Floats, Floats]:
    """The means of kⱼ over dimensions, and of kᵢ kⱼ over pairs of them; one dimension alone is its own pair."""
    each = _matern(distances2 / OWN_LENGTH**2)
    count, total = len(each), each.sum(0)
    if count == 1:
        return total, total
    return total / count, (total**2 - (each**2).sum(0)) / (count * (count - 1))


def loads(u: Floats, v: Floats, hyper: Hyper) -> Floats:
    """(n, m)"""
    near = np.exp(-0.5 * (u[:, None] - v[None]) ** 2 / hyper.tail.load_length**2)
    return np.asarray(FLOOR + (1 - FLOOR) * near)


def fitted(
    start: Hyper, distances2: Floats, x: Floats, rows: tuple[Ints, Floats], y: Floats, steps: int
) -> Hyper:
    """The most probable hyperparameters, from `start` on.

    `x` (t, d) are trials, `distances2` those between them; `rows`: the trial and the scaled load of each
    observation; `y` (n, outputs), each with mean 0 and variance 1 about the trend.
    """
    if not steps:
        return start
    problem = _Problem(distances2, x, rows, y)
    middle, spread = problem.prior()
    bounds = list(zip(middle - 3 * spread, middle + 3 * spread, strict=True))
    found = minimize(
        problem.loss,
        start.theta,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps},
    )
    return Hyper(found.x)


class _Problem:
    """Minus the logarithm of likelihood times prior, and its gradient."""

    def __init__(self, distances2: Floats, x: Floats, rows: tuple[Ints, Floats], y: Floats) -> None:
        self.trial, self.u = rows
        self.y, self.distances2 = y, distances2
        phi, wide = linear(x[self.trial], self.u), trend(self.u)
        self.linear, self.trend = phi @ phi.T, wide @ wide.T
        at = np.ix_(self.trial, self.trial)
        self.own, self.both = (effect[at] for effect in effects(distances2))
        self.same = (self.trial[:, None] == self.trial[None]).astype(np.float64)
        self.u2 = (self.u[:, None] - self.u[None]) ** 2
        self.member = np.zeros((len(self.trial), len(x)))
        self.member[np.arange(len(self.trial)), self.trial] = 1

    def prior(self) -> tuple[Floats, Floats]:
        dimensions = len(self.distances2)
        middle = Hyper.typical(dimensions).theta
        spread = np.concatenate([np.full(dimensions, _LENGTH_SD), _TAIL_SD])
        return middle, spread

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        hyper, outputs = Hyper(theta), self.y.shape[1]
        length, full, additive, slope, noise, start, pairs = hyper.tail
        scaled = _scaled(self.distances2, hyper)
        matern = full * _matern(scaled)[np.ix_(self.trial, self.trial)]
        near = (1 - FLOOR) * np.exp(-0.5 * self.u2 / length**2)
        over_load = FLOOR + near
        parts = (
            matern * over_load,
            additive * self.own * over_load,
            slope * self.linear,
            noise * np.eye(len(self.u)),
            start * self.same,
            pairs * self.both * over_load,
        )
        covariance = sum(parts) + self.trend + JITTER * np.eye(len(self.u))
        try:
            factor = cho_factor(covariance, lower=True)
        except LinAlgError:
            return 1e12, np.zeros_like(theta)
        weights = cho_solve(factor, self.y)
        middle, spread = self.prior()
        z = (theta - middle) / spread
        loss = 0.5 * (self.y * weights).sum() + 0.5 * outputs * (z @ z)
        loss += outputs * np.log(np.diag(factor[0])).sum()
        pull = 0.5 * (outputs * cho_solve(factor, np.eye(len(self.u))) - weights @ weights.T)
        alike = matern + additive * self.own + pairs * self.both
        by_load = alike * near * self.u2 / length**2
        by_pair = full * (self.member.T @ (pull * over_load) @ self.member)
        slopes = by_pair * _matern_slope(scaled)
        lengths = [
            (slopes * each).sum() for each in self.distances2 / hyper.lengths[:, None, None] ** 2
        ]
        tail = [(pull * by_load).sum(), *((pull * part).sum() for part in parts)]
        gradient = np.array([*lengths, *tail]) + outputs * z / spread
        return float(loss), gradient


def _scaled(distances2: Floats, hyper: Hyper) -> Floats:
    return np.asarray(np.tensordot(hyper.lengths**-2, distances2, axes=1))


def _matern(distance2: Floats) -> Floats:
    r = np.sqrt(5 * distance2)
    return np.asarray((1 + r + r * r / 3) * np.exp(-r))


def _matern_slope(distance2: Floats) -> Floats:
    """Of Matérn52 by the logarithm of a length, over that dimension's share of the distance."""
    r = np.sqrt(5 * distance2)
    return np.asarray(5 / 3 * (1 + r) * np.exp(-r))
