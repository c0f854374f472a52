"""The Gaussian process behind the search on curves, against plain linear algebra."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import check_grad

from tuner.search.curve import gp, kernel
from tuner.search.curve.gp import GaussianProcess, Observations, fit
from tuner.search.curve.kernel import Dimensions, Hyperparameters

GROUPS = ("engine", "engine", "tensor_parallel", "places")
LOADS = np.array([0.0, 2.0, 4.0])


def observed(trials: int = 7, seed: int = 0) -> Observations:
    rng = np.random.default_rng(seed)
    x = rng.random((trials, len(GROUPS)))
    trial = np.repeat(np.arange(trials), len(LOADS))
    loads = np.tile(LOADS, trials)
    slope = 0.8 * x[trial, 2] - 0.2 * loads
    y = np.stack([slope, 1 - slope + 0.3 * x[trial, 3], loads], 1)
    return Observations(x, trial, loads, y + 0.02 * rng.standard_normal(y.shape))


@pytest.fixture
def fitted_process() -> GaussianProcess:
    dimensions = Dimensions.of(GROUPS)
    return fit(
        dimensions, observed(), (0.0, 4.0), Hyperparameters.prior_mean(len(dimensions.names)), 10
    )


def covariance(
    made: GaussianProcess, x: np.ndarray, u: np.ndarray, y: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Of rows (x, u) with rows (y, v), term by term as the kernel's docstring has it."""
    lengths, (near, full, own, slope, _, _, pairs) = made.hyper.lengths, made.hyper.tail
    out = np.empty((len(x), len(y)))
    for i, (a, s) in enumerate(zip(x, u, strict=True)):
        for j, (b, t) in enumerate(zip(y, v, strict=True)):
            apart = [((a - b)[c] ** 2).sum() for c in made.dimensions.columns]
            together = matern(sum(d / length**2 for d, length in zip(apart, lengths, strict=True)))
            each = [matern(d / kernel.MAIN_EFFECT_LENGTH**2) for d in apart]
            both = np.mean([k * m for k, m in combinations(each, 2)])
            over = kernel.FLOOR + (1 - kernel.FLOOR) * np.exp(-0.5 * (s - t) ** 2 / near**2)
            phi = kernel.linear(np.array([a, b]), np.array([s, t]))
            wide = kernel.trend(np.array([s, t]))
            out[i, j] = (full * together + own * np.mean(each) + pairs * both) * over
            out[i, j] += slope * phi[0] @ phi[1] + wide[0] @ wide[1]
    return out


def matern(distance2: float) -> float:
    r = np.sqrt(5 * distance2)
    return float((1 + r + r * r / 3) * np.exp(-r))


def posterior(
    made: GaussianProcess, x: np.ndarray, loads: np.ndarray, output: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one output at all (x, load), x slowest."""
    rows, u = made.seen.x[made.seen.trial], made.u
    known = covariance(made, rows, u, rows, u)
    known += made.hyper.tail.start * (made.seen.trial[:, None] == made.seen.trial[None])
    known += made.noise[output] * np.eye(len(u))
    at, v = np.repeat(x, len(loads), 0), np.tile(loads / 4.0, len(x))
    cross = covariance(made, at, v, rows, u)
    mean = cross @ np.linalg.solve(known, made.z[:, output])
    spread = covariance(made, at, v, at, v) - cross @ np.linalg.solve(known, cross.T)
    return mean * made.scale[output] + made.mean[output], spread * made.scale[output] ** 2


def test_the_gradient_is_that_of_the_loss() -> None:
    seen, dimensions = observed(), Dimensions.of(GROUPS)
    apart = dimensions.distances2(seen.x, seen.x)
    problem = kernel._NegativeLogPosterior(
        apart, seen.x, (seen.trial, seen.loads / 4), seen.y[:, :2]
    )
    theta = Hyperparameters.prior_mean(3).theta + 0.1 * np.random.default_rng(1).standard_normal(10)
    off = check_grad(lambda t: problem.loss(t)[0], lambda t: problem.loss(t)[1], theta)
    assert off < 1e-4 * np.linalg.norm(problem.loss(theta)[1])


def test_no_covariance_exceeds_the_variance() -> None:
    for groups in (("engine",), GROUPS):
        dimensions, x = Dimensions.of(groups), np.random.default_rng(0).random((5, len(groups)))
        hyper = Hyperparameters.prior_mean(len(dimensions.names))
        alike = kernel.configurations(dimensions.distances2(x, x), hyper)
        np.testing.assert_allclose(np.diag(alike), hyper.variance)
        assert (alike < hyper.variance + 1e-9).all()


def test_fitting_makes_the_data_more_likely() -> None:
    dimensions, start = Dimensions.of(GROUPS), Hyperparameters.prior_mean(3)
    plain = fit(dimensions, observed(), (0.0, 4.0), start, 0)
    fitted = fit(dimensions, observed(), (0.0, 4.0), start, 30)
    assert fitted.log_likelihood > plain.log_likelihood


def test_means_are_those_of_the_normal_equations(fitted_process: GaussianProcess) -> None:
    x = np.random.default_rng(2).random((4, len(GROUPS)))
    got = fitted_process.means(x, LOADS)
    for output in range(3):
        mean, _ = posterior(fitted_process, x, LOADS, output)
        np.testing.assert_allclose(got[..., output].reshape(-1), mean, atol=1e-6)


def test_draws_have_the_posterior_mean_and_spread(fitted_process: GaussianProcess) -> None:
    x = np.random.default_rng(3).random((3, len(GROUPS)))
    new, old = fitted_process.draws(x, LOADS, 4000, np.random.default_rng(4))
    assert new.shape == (4000, 3, 3, 3)
    assert old.shape == (4000, 7, 3, 3)
    for output in range(3):
        mean, spread = posterior(fitted_process, x, LOADS, output)
        flat = new[..., output].reshape(4000, -1)
        deviation = np.sqrt(np.diag(spread))
        np.testing.assert_allclose(
            flat.mean(0), mean, atol=5 * deviation.max() / np.sqrt(4000) + 2e-3
        )
        np.testing.assert_allclose(np.cov(flat.T), spread, atol=0.12 * spread.max() + 1e-5)


def test_what_was_measured_without_noise_is_reproduced() -> None:
    dimensions, seen = Dimensions.of(GROUPS), observed()
    made = fit(dimensions, seen, (0.0, 4.0), Hyperparameters.prior_mean(3), 30)
    got = made.means(seen.x, LOADS).reshape(-1, 3)
    assert np.abs(got - seen.y).max() < 0.08


def test_outputs_have_noises_of_their_own() -> None:
    seen, rng = observed(20), np.random.default_rng(5)
    loud = seen.y + np.array([0.0, 0.0, 0.4]) * rng.standard_normal(seen.y.shape)
    made = fit(
        Dimensions.of(GROUPS),
        Observations(seen.x, seen.trial, seen.loads, loud),
        (0.0, 4.0),
        Hyperparameters.prior_mean(3),
        30,
    )
    deviations = np.sqrt(made.noise) * made.scale
    assert 0.25 < deviations[2] < 0.6
    assert deviations[0] < 0.08


def test_a_fit_without_observations_is_an_error() -> None:
    empty = Observations(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0), np.empty((0, 2)))
    with pytest.raises(ValueError, match="nothing was observed"):
        fit(Dimensions.of(GROUPS), empty, (0.0, 1.0), Hyperparameters.prior_mean(3), 0)


def test_a_thinned_fit_takes_every_trial() -> None:
    rows = gp._thinned(1000, 240)
    assert len(rows) <= 240
    assert set(np.diff(rows)) == {5}
