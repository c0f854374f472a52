"""What a Gaussian process predicts of each trial from all the others, without a fit for each of them. Pure.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 5.4.2, for a whole trial at a
time: with K the covariance of the observations, noise included, α = K⁻¹ z and B the rows of a trial, the other
rows have the weights α − K⁻¹[:, B] (K⁻¹[B, B])⁻¹ α[B]. Hyperparameters, noise and scale are of all trials.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tuner.search.curve import kernel
from tuner.search.curve.gp import GaussianProcess
from tuner.search.curve.kernel import Floats


def left_out_means(process: GaussianProcess, loads: Sequence[Floats]) -> list[Floats]:
    """(loads, outputs) of each observed trial: the means that its curve has given the other trials.

    `loads`: those of each trial (log₂).
    """
    weights = _weights_without_each(process)
    return [
        _from_observations(process, trial, process.scaled(at)) @ each * process.scale + process.mean
        for trial, (at, each) in enumerate(zip(loads, weights, strict=True))
    ]


def left_out_draws(
    process: GaussianProcess, count: int, rng: np.random.Generator
) -> list[tuple[Floats, Floats]]:
    """Of each observed trial: the mean (loads, outputs) that the others give what was observed of it, and draws
    (count, loads, outputs) of the deviation from that mean, noise included."""
    vectors, trial = process.eigenvectors, process.seen.trial
    ends = np.searchsorted(trial, np.arange(len(process.seen.x) + 1)).tolist()
    shape = (count, *process.z.shape)
    means, apart = np.empty_like(process.z), rng.standard_normal(shape) @ process.mixing.T
    for output, noise in enumerate(process.noise):
        inverse = (vectors / (process.eigenvalues + noise)) @ vectors.T
        alpha = inverse @ process.z[:, output]
        for begin, end in pairwise(ends):
            own = np.linalg.inv(inverse[begin:end, begin:end])
            means[begin:end, output] = process.z[begin:end, output] - own @ alpha[begin:end]
            root = np.linalg.cholesky((own + own.T) / 2)
            apart[:, begin:end, output] = apart[:, begin:end, output] @ root.T
    means, apart = means * process.scale + process.mean, apart * process.scale
    return [(means[begin:end], apart[:, begin:end]) for begin, end in pairwise(ends)]


def _weights_without_each(process: GaussianProcess) -> list[Floats]:
    """(observations, outputs) of each trial: the weights of the observations, those of the trial 0."""
    vectors, trial = process.eigenvectors, process.seen.trial
    ends = np.searchsorted(trial, np.arange(len(process.seen.x) + 1))
    found = [np.empty_like(process.z) for _ in process.seen.x]
    for output, noise in enumerate(process.noise):
        inverse = (vectors / (process.eigenvalues + noise)) @ vectors.T
        alpha = inverse @ process.z[:, output]
        for each, begin, end in zip(found, ends[:-1], ends[1:], strict=True):
            own = np.linalg.solve(inverse[begin:end, begin:end], alpha[begin:end])
            each[:, output] = alpha - inverse[:, begin:end] @ own
            each[begin:end, output] = 0.0
    return found


def _from_observations(process: GaussianProcess, trial: int, u: Floats) -> Floats:
    """(loads, observations): the covariance of a trial's curve at scaled loads u with all observations."""
    seen, hyper = process.seen, process.hyper
    x = seen.x[trial : trial + 1]
    over_x = kernel.configurations(process.dimensions.distances2(x, seen.x), hyper)[0]
    found = over_x[seen.trial] * kernel.loads(u, process.u, hyper)
    here = kernel.linear(np.repeat(x, len(u), 0), u)
    found += hyper.tail.slope * here @ kernel.linear(seen.x[seen.trial], process.u).T
    found += kernel.trend(u) @ kernel.trend(process.u).T
    return np.asarray(found)
