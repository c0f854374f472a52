"""The kernel: the covariance of two configurations at two loads. Pure.

    k = [f · Matérn52(x, x'; a length for each dimension) + a · mean over dimensions of kⱼ
         + p · mean over pairs of dimensions of kᵢ kⱼ] · [ρ + (1 − ρ) · RBF(u, u')]
        + l · ⟨φ(x, u), φ(x', u')⟩ + ⟨t(u), t(u')⟩ + s · [same trial],   kⱼ = Matérn52(xⱼ, x'ⱼ)

x: an encoded configuration; u: its load, scaled to [0, 1]. φ: linear in x, and in x times u; t: a wide
quadratic in u, the trend that all curves share. In the first bracket, f is the amplitude of the joint effect of
all dimensions, a of each dimension's main effect, which a dozen trials can determine, and p of the interactions
of pairs: a pair that no trial combined stays uncertain. Matérn: Rasmussen and Williams, Gaussian Processes for
Machine Learning (2006), eq. 4.17; sums over pairs: Duvenaud et al., Additive Gaussian Processes (2011), by
Newton's identity.
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

FLOOR = 0.25  # ρ: the correlation over load of two loads that are far apart
MAIN_EFFECT_LENGTH = 0.8  # of kⱼ: about the whole range of a dimension
TREND = 3.0  # standard deviation of the trend's coefficients: so wide that the trend is free
JITTER = 1e-8
# The hyperparameters' prior, of their logarithms. After a length for each dimension the tail: the length of
# load, f, a, l, noise, noise of a start (s), p.
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
        """`groups`: the name of each column's dimension, (d,)."""
        names = tuple(dict.fromkeys(groups))
        columns = tuple(np.flatnonzero(np.array(groups) == name) for name in names)
        return cls(names, columns)

    def distances2(self, x: Floats, y: Floats) -> Floats:
        """(dimensions, n, m): squared distances of x (n, d) and y (m, d) in each dimension."""
        apart = [((x[:, None, c] - y[None, :, c]) ** 2).sum(-1) for c in self.columns]
        return np.array(apart).reshape(len(self.columns), len(x), len(y))


class Tail(NamedTuple):
    """All hyperparameters but the dimensions' lengths. In the module's formula: the length of load, f, a, l,
    the variance of an observation's noise, s and p."""

    load_length: float
    full: float
    additive: float
    slope: float
    noise: float
    start: float
    pairs: float


@dataclass(frozen=True, slots=True, eq=False)
class Hyperparameters:
    """`theta`: logarithms of a length for each dimension, then of the tail: (dimensions + 7,)."""

    theta: Floats

    @classmethod
    def prior_mean(cls, dimensions: int) -> "Hyperparameters":
        """Where fitting starts."""
        return cls(np.concatenate([np.full(dimensions, _LENGTH_MEAN), _TAIL_MEAN]))

    @property
    def lengths(self) -> Floats:
        """The length scale of each dimension, (dimensions,)."""
        return np.asarray(np.exp(self.theta[: -len(_TAIL_MEAN)]))

    @property
    def tail(self) -> Tail:
        """The others, by name."""
        return Tail(*np.exp(self.theta[-len(_TAIL_MEAN) :]))

    @property
    def variance(self) -> float:
        """`configurations` of a configuration with itself."""
        tail = self.tail
        return float(tail.full + tail.additive + tail.pairs)


def linear(x: Floats, u: Floats) -> Floats:
    """φ: (n, 2 d), of x (n, d) and u (n,)."""
    centred = x - 0.5
    both = np.hstack([centred, 2 * (u[:, None] - 0.5) * centred])
    return np.asarray(both * (2 / np.sqrt(x.shape[1])))


def trend(u: Floats) -> Floats:
    """t: (n, 3), of u (n,)."""
    centred = 2 * (u - 0.5)
    return np.asarray(TREND * np.stack([np.ones_like(u), centred, centred**2], 1))


def configurations(distances2: Floats, hyper: Hyperparameters) -> Floats:
    """The first bracket of the kernel, (n, m). `distances2`: (dimensions, n, m)."""
    tail = hyper.tail
    joint = tail.full * _matern(_scaled(distances2, hyper))
    main, pairs = effects(distances2)
    return np.asarray(joint + tail.additive * main + tail.pairs * pairs)


def effects(distances2: Floats) -> tuple[Floats, Floats]:
    """The means of kⱼ over dimensions, and of kᵢ kⱼ over pairs of them, (n, m) each.

    A single dimension is its own pair.
    """
    count, (total, squares) = len(distances2), np.zeros((2, *distances2.shape[1:]))
    for distance2 in distances2:  # one at a time: an array over all of them falls out of the cache
        each = _matern(distance2 / MAIN_EFFECT_LENGTH**2)
        total += each
        squares += each**2
    if count == 1:
        return total, total
    return total / count, (total**2 - squares) / (count * (count - 1))


def loads(u: Floats, v: Floats, hyper: Hyperparameters) -> Floats:
    """The second bracket of the kernel, (n, m): the correlation of loads u (n,) and v (m,)."""
    near = np.exp(-0.5 * (u[:, None] - v[None]) ** 2 / hyper.tail.load_length**2)
    return np.asarray(FLOOR + (1 - FLOOR) * near)


def fitted(
    start: Hyperparameters,
    distances2: Floats,
    x: Floats,
    rows: tuple[Ints, Floats],
    y: Floats,
    steps: int,
) -> Hyperparameters:
    """The most probable hyperparameters (maximum a posteriori), by at most `steps` of L-BFGS-B from `start`.

    `x`: (t, d), trials; `distances2`: (dimensions, t, t), between them; `rows`: the trial and the scaled load
    of each observation, (n,) each; `y`: (n, outputs), each with mean 0 and variance 1 about the trend.
    """
    if not steps:
        return start
    problem = _NegativeLogPosterior(distances2, x, rows, y)
    mean, sd = problem.prior()
    bounds = list(zip(mean - 3 * sd, mean + 3 * sd, strict=True))
    found = minimize(
        problem.loss,
        start.theta,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps},
    )
    return Hyperparameters(found.x)


class _NegativeLogPosterior:
    """The loss that fitting minimises: −log(likelihood × prior) of the hyperparameters, and its gradient."""

    def __init__(self, distances2: Floats, x: Floats, rows: tuple[Ints, Floats], y: Floats) -> None:
        self.trial, self.u = rows
        self.y, self.distances2 = y, distances2
        phi, wide = linear(x[self.trial], self.u), trend(self.u)
        self.linear, self.trend = phi @ phi.T, wide @ wide.T
        at = np.ix_(self.trial, self.trial)
        self.main, self.pairs = (effect[at] for effect in effects(distances2))
        self.same = (self.trial[:, None] == self.trial[None]).astype(np.float64)
        self.u2 = (self.u[:, None] - self.u[None]) ** 2
        self.member = np.zeros((len(self.trial), len(x)))
        self.member[np.arange(len(self.trial)), self.trial] = 1

    def prior(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of theta."""
        dimensions = len(self.distances2)
        mean = Hyperparameters.prior_mean(dimensions).theta
        return mean, np.concatenate([np.full(dimensions, _LENGTH_SD), _TAIL_SD])

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        """The loss and its gradient, (theta,)."""
        hyper, outputs = Hyperparameters(theta), self.y.shape[1]
        length, full, additive, slope, noise, start, pairs = hyper.tail
        scaled = _scaled(self.distances2, hyper)
        matern = full * _matern(scaled)[np.ix_(self.trial, self.trial)]
        near = (1 - FLOOR) * np.exp(-0.5 * self.u2 / length**2)
        over_load = FLOOR + near
        parts = (
            matern * over_load,
            additive * self.main * over_load,
            slope * self.linear,
            noise * np.eye(len(self.u)),
            start * self.same,
            pairs * self.pairs * over_load,
        )
        covariance = sum(parts) + self.trend + JITTER * np.eye(len(self.u))
        try:
            factor = cho_factor(covariance, lower=True)
        except LinAlgError:
            return 1e12, np.zeros_like(theta)
        weights = cho_solve(factor, self.y)
        mean, sd = self.prior()
        z = (theta - mean) / sd
        loss = 0.5 * (self.y * weights).sum() + 0.5 * outputs * (z @ z)
        loss += outputs * np.log(np.diag(factor[0])).sum()
        pull = 0.5 * (outputs * cho_solve(factor, np.eye(len(self.u))) - weights @ weights.T)
        over_x = matern + additive * self.main + pairs * self.pairs
        by_load = over_x * near * self.u2 / length**2
        by_pair = full * (self.member.T @ (pull * over_load) @ self.member)
        slopes = by_pair * _matern_slope(scaled)
        lengths = [
            (slopes * each).sum() for each in self.distances2 / hyper.lengths[:, None, None] ** 2
        ]
        tail = [(pull * by_load).sum(), *((pull * part).sum() for part in parts)]
        gradient = np.array([*lengths, *tail]) + outputs * z / sd
        return float(loss), gradient


def _scaled(distances2: Floats, hyper: Hyperparameters) -> Floats:
    return np.asarray(np.tensordot(hyper.lengths**-2, distances2, axes=1))


def _matern(distance2: Floats) -> Floats:
    r = np.sqrt(5 * distance2)
    found = 1 + r
    found += r * r / 3
    found *= np.exp(-r)
    return np.asarray(found)


def _matern_slope(distance2: Floats) -> Floats:
    """The derivative of Matérn52 by the logarithm of a length, divided by that dimension's scaled distance²."""
    r = np.sqrt(5 * distance2)
    return np.asarray(5 / 3 * (1 + r) * np.exp(-r))
