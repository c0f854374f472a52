"""What is believed of curves nobody measured: a Gaussian process over (configuration × load). Pure.

All outputs share the covariance `kernel` describes; each has a noise of its own. Curves are drawn jointly for
measured and unmeasured configurations, by Matheron's rule (Wilson et al., Efficiently sampling functions from
Gaussian process posteriors, 2020), so that what a candidate gains is told from what noise only seems to give.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve import kernel
from tuner.search.curve.kernel import Dimensions, Floats, Hyper, Ints

NOISE_GRID = np.geomspace(1e-4, 3.0, 40)  # of an output, as a share of its signal
FITTED_ROWS = 240  # observations that hyperparameters are fitted to; all count for predictions
ALIKE = 0.95  # the most that the outputs of a curve are held to move together
# Of the logarithms between configurations; and how many trials that counts as.
SPREAD, SUPPOSED = 0.4, 4
LEAST_SPREAD = 0.02  # of an output: what can't be told from noise


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """`x` (t, d): trials; `trial`, `loads` (n,): of each observation; `y` (n, outputs): logarithms."""

    x: Floats
    trial: Ints
    loads: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """A fitted belief. `scale`: of each output; its `level` is added. Load is in units of log₂."""

    dimensions: Dimensions
    hyper: Hyper
    seen: Observed
    u: Floats  # scaled loads of the observations
    z: Floats  # standardised outputs
    vectors: Floats  # of the signal's covariance
    values: Floats
    noise: Floats  # of each output
    span: tuple[float, float]
    level: Floats
    scale: Floats
    together: (
        Floats  # (outputs, outputs): mixes independent outputs into ones that move as those seen do
    )
    evidence: float  # the log likelihood of the leading outputs

    def means(self, x: Floats, loads: Floats) -> Floats:
        """(n, loads, outputs)"""
        return self.means_and_doubts(x, loads)[0]

    def means_and_doubts(self, x: Floats, loads: Floats) -> tuple[Floats, Floats]:
        """The means, and (n,) roughly a standard deviation, in units of `scale`, by the nearest trial."""
        alike = self._alike(x)
        means = self._crossed(x, alike, loads, self._solved(self.z)[:, None])[0]
        most = self.hyper.most
        doubts = np.sqrt(np.clip(1 - (alike.max(1) / most) ** 2, 0, 1) * most)
        return means * self.scale + self.level, doubts

    def draws(
        self, x: Floats, loads: Floats, count: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Whole curves, drawn together: (count, n, loads, outputs), and those of the trials seen."""
        grid = np.unique(np.concatenate([loads, self.seen.loads]))
        everyone = np.concatenate([x, self.seen.x])
        prior = self._prior_draws(everyone, self._scaled(grid), count, rng)
        rows = prior[:, len(x) + self.seen.trial, np.searchsorted(grid, self.seen.loads)]
        noise = rng.standard_normal(rows.shape) * np.sqrt(self.noise)
        starts = rng.standard_normal((count, len(self.seen.x), rows.shape[-1]))
        noise += np.sqrt(self.hyper.tail.start) * starts[:, self.seen.trial]
        weights = self._solved((self.z[None] - rows - noise).transpose(1, 0, 2))
        update = self._crossed(everyone, self._alike(everyone), loads, weights)
        drawn = prior[:, :, np.searchsorted(grid, loads)] + update
        drawn = drawn * self.scale + self.level
        return drawn[:, : len(x)], drawn[:, len(x) :]

    def _alike(self, x: Floats) -> Floats:
        """(n, trials)"""
        return kernel.configurations(self.dimensions.distances2(x, self.seen.x), self.hyper)

    def _crossed(self, x: Floats, alike: Floats, loads: Floats, weights: Floats) -> Floats:
        """The covariance of new curves with the observations, times weights (n, draws, outputs)."""
        u, count = self._scaled(loads), weights.shape[1] * weights.shape[2]
        flat = weights.reshape(len(self.u), count)
        over_load = kernel.loads(u, self.u, self.hyper)
        linear = self.hyper.tail.slope * (
            kernel.linear(self.seen.x[self.seen.trial], self.u).T @ flat
        )
        trend = kernel.trend(self.u).T @ flat
        out = np.empty((len(x), len(u), count))
        for index, at in enumerate(u):
            by_trial = np.zeros((len(self.seen.x), count))
            np.add.at(by_trial, self.seen.trial, over_load[index][:, None] * flat)
            here = np.full(len(x), at)
            out[:, index] = alike @ by_trial + kernel.linear(x, here) @ linear
            out[:, index] += kernel.trend(here[:1]) @ trend
        shaped = out.reshape(len(x), len(u), *weights.shape[1:])
        return np.asarray(shaped.transpose(2, 0, 1, 3))

    def _prior_draws(self, x: Floats, u: Floats, count: int, rng: np.random.Generator) -> Floats:
        """Exact: the covariance is a Kronecker product, and a linear part."""
        outputs = len(self.scale)
        apart = self.dimensions.distances2(x, x)
        over_x = _root(kernel.configurations(apart, self.hyper))
        over_u = _root(kernel.loads(u, u, self.hyper))
        curves = over_x @ rng.standard_normal((count, outputs, len(x), len(u))) @ over_u.T
        slopes = rng.standard_normal((count, outputs, 2 * x.shape[1], 1))
        slopes *= np.sqrt(self.hyper.tail.slope)
        for index, at in enumerate(u):
            phi = kernel.linear(x, np.full(len(x), at))
            curves[..., index] += (phi @ slopes)[..., 0]
        bend = rng.standard_normal((count, outputs, 3, 1))
        curves += (kernel.trend(u) @ bend)[:, :, None, :, 0]
        return np.asarray(np.einsum("op,spnu->snuo", self.together, curves))

    def _solved(self, y: Floats) -> Floats:
        """(n, …, outputs): the covariance of the observations, inverted, times y."""
        turned = np.tensordot(self.vectors.T, y, axes=1)
        shape = (len(self.values),) + (1,) * (y.ndim - 2) + (len(self.noise),)
        damped = (self.values[:, None] + self.noise).reshape(shape)
        return np.asarray(np.tensordot(self.vectors, turned / damped, axes=1))

    def _scaled(self, loads: Floats) -> Floats:
        low, high = self.span
        return (np.asarray(loads, np.float64) - low) / (high - low)


def fit(
    dimensions: Dimensions,
    seen: Observed,
    span: tuple[float, float],
    start: Hyper,
    steps: int,
    leading: int = 2,
) -> Process:
    """`span`: loads (log₂) from which to which curves are of interest. `leading`: outputs, from the first on,
    that hyperparameters are fitted to. Raises ValueError without observations."""
    if not len(seen.loads):
        raise ValueError("nothing was observed")
    span = (span[0], max(span[1], span[0] + 1e-9))
    u = (seen.loads - span[0]) / (span[1] - span[0])
    level, scale, rest = _standard(u, seen.y, len(seen.x))
    z = (seen.y - level) / scale
    apart = dimensions.distances2(seen.x, seen.x)
    some = _thinned(len(u), FITTED_ROWS)
    rows = (seen.trial[some], u[some])
    hyper = kernel.fitted(start, apart, seen.x, rows, z[some][:, :leading], steps)
    values, vectors = _signal(hyper, apart, seen, u)
    turned = vectors.T @ z
    noise = _noises(values, turned)
    damped = values[:, None] + noise
    likely = -0.5 * (turned**2 / damped + np.log(damped)).sum(0) - len(u) * np.log(scale)
    together = _together(rest)
    return Process(
        dimensions,
        hyper,
        seen,
        u,
        z,
        vectors,
        values,
        noise,
        span,
        level,
        scale,
        together,
        float(likely[:leading].sum()),
    )


def _standard(u: Floats, y: Floats, trials: int) -> tuple[Floats, Floats, Floats]:
    """Mean, spread about the trend over the load, and what is left of each: what configurations differ by.

    The spread that a few trials show is held to be an accident, the more so the fewer they are.
    """
    basis = np.stack([np.ones_like(u), u, u * u], 1)
    rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    spread2 = (trials * rest.var(0) + SUPPOSED * SPREAD**2) / (trials + SUPPOSED)
    return y.mean(0), np.sqrt(spread2), rest


def _together(rest: Floats) -> Floats:
    """The root of the outputs' correlation; outputs that hardly differ are held to move alone."""
    rest = rest + LEAST_SPREAD * np.random.default_rng(0).standard_normal(rest.shape)
    alike = ALIKE * np.atleast_2d(np.corrcoef(rest.T)) + (1 - ALIKE) * np.eye(rest.shape[1])
    return _root(alike)


def _thinned(rows: int, most: int) -> Ints:
    """Every k-th observation, so that each trial keeps its share."""
    return np.arange(0, rows, -(-rows // most))


def _signal(hyper: Hyper, apart: Floats, seen: Observed, u: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues and vectors of the observations' covariance, without noise."""
    at = np.ix_(seen.trial, seen.trial)
    phi, wide = kernel.linear(seen.x[seen.trial], u), kernel.trend(u)
    signal = kernel.configurations(apart, hyper)[at] * kernel.loads(u, u, hyper)
    signal += hyper.tail.slope * phi @ phi.T + wide @ wide.T
    signal += hyper.tail.start * (seen.trial[:, None] == seen.trial[None])
    values, vectors = np.linalg.eigh(signal)
    return np.clip(values, 0, None), vectors


def _noises(values: Floats, turned: Floats) -> Floats:
    """Of each output the most likely noise, given the signal."""
    damped = values[:, None] + NOISE_GRID  # (n, grid)
    likelihoods = -0.5 * (
        (turned[:, :, None] ** 2 / damped[:, None]).sum(0) + np.log(damped).sum(0)
    )
    return np.asarray(NOISE_GRID[likelihoods.argmax(1)])


def _root(covariance: Floats) -> NDArray[np.float64]:
    size = len(covariance)
    return np.asarray(np.linalg.cholesky(covariance + 1e-7 * covariance[0, 0] * np.eye(size)))
