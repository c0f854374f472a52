"""A Gaussian process over (configuration × load): estimates of curves that were not measured. Pure.

All outputs share the covariance of `kernel`; each has a noise of its own. Curves are drawn jointly for measured
and unmeasured configurations by Matheron's rule (Wilson et al., Efficiently sampling functions from Gaussian
process posteriors, 2020), so that a draw of a candidate's gain accounts for the noise of what was measured.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve import kernel
from tuner.search.curve.kernel import Dimensions, Floats, Hyperparameters, Ints

NOISE_GRID = np.geomspace(
    1e-4, 3.0, 40
)  # variance of an output's noise, as a share of its signal's
FITTED_ROWS = 240  # observations that hyperparameters are fitted to; all count for predictions
CORRELATION = 0.95  # factor by which the outputs' correlations are shrunk
# Prior of an output's standard deviation between configurations (of logarithms), and its weight in trials.
PRIOR_SD, PRIOR_TRIALS = 0.4, 4
JITTER_SD = 0.02  # of the noise that keeps nearly constant outputs from correlating


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Measured load levels of t trials, n in all.

    `x`: (t, d), encoded configurations; `trial`, `loads`: (n,), the trial and the load per device (log₂) of
    each level, trial after trial; `y`: (n, outputs), logarithms.
    """

    x: Floats
    trial: Ints
    loads: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class GaussianProcess:
    """A process fitted to observations. An output is `mean` + `scale` × its standardised value."""

    dimensions: Dimensions
    hyper: Hyperparameters
    seen: Observations
    u: Floats  # (n,): loads of the observations, scaled to [0, 1]
    z: Floats  # (n, outputs): standardised
    eigenvectors: Floats  # (n, n): of the observations' covariance without noise
    eigenvalues: Floats  # (n,)
    noise: Floats  # (outputs,): variances
    span: tuple[float, float]  # the loads (log₂) at u = 0 and 1
    mean: Floats  # (outputs,)
    scale: Floats  # (outputs,)
    mixing: Floats  # (outputs, outputs): turns independent outputs into ones correlated as those observed
    log_likelihood: float  # of the leading outputs

    def means(self, x: Floats, loads: Floats) -> Floats:
        """(n, loads, outputs): the posterior means of x (n, d) at these loads (log₂)."""
        return self.means_and_sds(x, loads)[0]

    def means_and_sds(self, x: Floats, loads: Floats) -> tuple[Floats, Floats]:
        """The means, and (n,) approximate standard deviations in units of `scale`, by the nearest trial."""
        over_x = self._over_x(x)
        means = self._cross(x, over_x, loads, self._solve(self.z)[:, None])[0]
        variance = self.hyper.variance
        sds = np.sqrt(np.clip(1 - (over_x.max(1) / variance) ** 2, 0, 1) * variance)
        return means * self.scale + self.mean, sds

    def draws(
        self, x: Floats, loads: Floats, count: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Whole curves from the posterior, drawn jointly: (count, n, loads, outputs) of x (n, d), and
        (count, t, loads, outputs) of the observed trials."""
        grid = np.unique(np.concatenate([loads, self.seen.loads]))
        everyone = np.concatenate([x, self.seen.x])
        prior = self._prior_draws(everyone, self.scaled(grid), count, rng)
        rows = prior[:, len(x) + self.seen.trial, np.searchsorted(grid, self.seen.loads)]
        noise = rng.standard_normal(rows.shape) * np.sqrt(self.noise)
        starts = rng.standard_normal((count, len(self.seen.x), rows.shape[-1]))
        noise += np.sqrt(self.hyper.tail.start) * starts[:, self.seen.trial]
        weights = self._solve((self.z[None] - rows - noise).transpose(1, 0, 2))
        update = self._cross(everyone, self._over_x(everyone), loads, weights)
        drawn = prior[:, :, np.searchsorted(grid, loads)] + update
        drawn = drawn * self.scale + self.mean
        return drawn[:, : len(x)], drawn[:, len(x) :]

    def start_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """What one start of a configuration adds to its curve: draws (…, loads, outputs)."""
        levels = rng.standard_normal(shape) * np.sqrt(self.noise)
        starts = rng.standard_normal((*shape[:-2], 1, shape[-1]))
        return np.asarray((levels + np.sqrt(self.hyper.tail.start) * starts) * self.scale)

    def _over_x(self, x: Floats) -> Floats:
        """(n, t): the kernel's first bracket between x and the observed trials."""
        return kernel.configurations(self.dimensions.distances2(x, self.seen.x), self.hyper)

    def _cross(self, x: Floats, over_x: Floats, loads: Floats, weights: Floats) -> Floats:
        """The covariance of new curves with the observations, times weights (n, draws, outputs)."""
        u, count = self.scaled(loads), weights.shape[1] * weights.shape[2]
        flat = weights.reshape(len(self.u), count)
        over_load = kernel.loads(u, self.u, self.hyper)
        linear = self.hyper.tail.slope * (
            kernel.linear(self.seen.x[self.seen.trial], self.u).T @ flat
        )
        trend = kernel.trend(self.u).T @ flat
        out = np.empty((len(x), len(u), count))
        starts = np.searchsorted(self.seen.trial, np.arange(len(self.seen.x)))
        for index, at in enumerate(u):
            by_trial = np.add.reduceat(over_load[index][:, None] * flat, starts, axis=0)
            here = np.full(len(x), at)
            out[:, index] = over_x @ by_trial + kernel.linear(x, here) @ linear
            out[:, index] += kernel.trend(here[:1]) @ trend
        shaped = out.reshape(len(x), len(u), *weights.shape[1:])
        return np.asarray(shaped.transpose(2, 0, 1, 3))

    def _prior_draws(self, x: Floats, u: Floats, count: int, rng: np.random.Generator) -> Floats:
        """Exact: the covariance is a Kronecker product, and a linear part."""
        outputs = len(self.scale)
        apart = self.dimensions.distances2(x, x)
        root_x = _root(kernel.configurations(apart, self.hyper))
        root_u = _root(kernel.loads(u, u, self.hyper))
        curves = root_x @ rng.standard_normal((count, outputs, len(x), len(u))) @ root_u.T
        slopes = rng.standard_normal((count, outputs, 2 * x.shape[1], 1))
        slopes *= np.sqrt(self.hyper.tail.slope)
        for index, at in enumerate(u):
            phi = kernel.linear(x, np.full(len(x), at))
            curves[..., index] += (phi @ slopes)[..., 0]
        bend = rng.standard_normal((count, outputs, 3, 1))
        curves += (kernel.trend(u) @ bend)[:, :, None, :, 0]
        return np.asarray(np.einsum("op,spnu->snuo", self.mixing, curves))

    def _solve(self, y: Floats) -> Floats:
        """(n, …, outputs): the inverse of the observations' covariance, noise included, times y."""
        turned = np.tensordot(self.eigenvectors.T, y, axes=1)
        shape = (len(self.eigenvalues),) + (1,) * (y.ndim - 2) + (len(self.noise),)
        damped = (self.eigenvalues[:, None] + self.noise).reshape(shape)
        return np.asarray(np.tensordot(self.eigenvectors, turned / damped, axes=1))

    def scaled(self, loads: Floats) -> Floats:
        """Loads (log₂) as u, 0 to 1 over the span."""
        low, high = self.span
        return (np.asarray(loads, np.float64) - low) / (high - low)


def fit(
    dimensions: Dimensions,
    seen: Observations,
    span: tuple[float, float],
    start: Hyperparameters,
    steps: int,
    leading: int = 2,
) -> GaussianProcess:
    """A process given the observations. Raises ValueError without any.

    `span`: lowest and highest load of interest (log₂). Hyperparameters are fitted by `steps` from `start`, to
    the first `leading` outputs alone.
    """
    if not len(seen.loads):
        raise ValueError("nothing was observed")
    span = (span[0], max(span[1], span[0] + 1e-9))
    u = (seen.loads - span[0]) / (span[1] - span[0])
    mean, scale, residual = _standardised(u, seen.y, len(seen.x))
    z = (seen.y - mean) / scale
    apart = dimensions.distances2(seen.x, seen.x)
    some = _thinned(len(u), FITTED_ROWS)
    rows = (seen.trial[some], u[some])
    hyper = kernel.fitted(start, apart, seen.x, rows, z[some][:, :leading], steps)
    eigenvalues, eigenvectors = _signal(hyper, apart, seen, u)
    turned = eigenvectors.T @ z
    noise = _noises(eigenvalues, turned)
    damped = eigenvalues[:, None] + noise
    likelihoods = -0.5 * (turned**2 / damped + np.log(damped)).sum(0) - len(u) * np.log(scale)
    return GaussianProcess(
        dimensions,
        hyper,
        seen,
        u,
        z,
        eigenvectors,
        eigenvalues,
        noise,
        span,
        mean,
        scale,
        _mixing(residual),
        float(likelihoods[:leading].sum()),
    )


def _standardised(u: Floats, y: Floats, trials: int) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation about the trend over the load, and the residuals from that trend.

    The standard deviation that a few trials show is shrunk to `PRIOR_SD`, the more the fewer they are.
    """
    basis = np.stack([np.ones_like(u), u, u * u], 1)
    residual = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    variance = (trials * residual.var(0) + PRIOR_TRIALS * PRIOR_SD**2) / (trials + PRIOR_TRIALS)
    return y.mean(0), np.sqrt(variance), residual


def _mixing(residual: Floats) -> Floats:
    """The root of the outputs' correlation; outputs that hardly vary count as uncorrelated."""
    residual = residual + JITTER_SD * np.random.default_rng(0).standard_normal(residual.shape)
    outputs = residual.shape[1]
    correlation = np.atleast_2d(np.corrcoef(residual.T))
    return _root(CORRELATION * correlation + (1 - CORRELATION) * np.eye(outputs))


def _thinned(rows: int, most: int) -> Ints:
    """Every k-th observation, so that each trial keeps its share."""
    return np.arange(0, rows, -(-rows // most))


def _signal(
    hyper: Hyperparameters, apart: Floats, seen: Observations, u: Floats
) -> tuple[Floats, Floats]:
    """Eigenvalues and vectors of the observations' covariance, without noise."""
    at = np.ix_(seen.trial, seen.trial)
    phi, wide = kernel.linear(seen.x[seen.trial], u), kernel.trend(u)
    signal = kernel.configurations(apart, hyper)[at] * kernel.loads(u, u, hyper)
    signal += hyper.tail.slope * phi @ phi.T + wide @ wide.T
    signal += hyper.tail.start * (seen.trial[:, None] == seen.trial[None])
    values, vectors = np.linalg.eigh(signal)
    return np.clip(values, 0, None), vectors


def _noises(eigenvalues: Floats, turned: Floats) -> Floats:
    """The most likely noise of each output, given the signal."""
    damped = eigenvalues[:, None] + NOISE_GRID  # (n, grid)
    likelihoods = -0.5 * (
        (turned[:, :, None] ** 2 / damped[:, None]).sum(0) + np.log(damped).sum(0)
    )
    return np.asarray(NOISE_GRID[likelihoods.argmax(1)])


def _root(covariance: Floats) -> NDArray[np.float64]:
    size = len(covariance)
    return np.asarray(np.linalg.cholesky(covariance + 1e-7 * covariance[0, 0] * np.eye(size)))
