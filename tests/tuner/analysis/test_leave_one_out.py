"""Leave-one-out predictions in closed form, against a process of the other trials alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.leave_one_out import left_out_means
from tuner.search.curve import kernel
from tuner.search.curve.gp import GaussianProcess, Observations, fit
from tuner.search.curve.kernel import Dimensions, Hyperparameters

GROUPS = ("engine", "engine", "tensor_parallel", "places")
SPAN = (0.0, 4.0)


def process(sizes: list[int], seed: int) -> GaussianProcess:
    """Trials of so many levels each, with curves of three outputs."""
    rng = np.random.default_rng(seed)
    x, trial = rng.random((len(sizes), len(GROUPS))), np.repeat(np.arange(len(sizes)), sizes)
    loads = rng.uniform(*SPAN, len(trial))
    y = np.stack([x[trial, 2] - 0.2 * loads, 0.3 * x[trial, 3] + 0.1 * loads**2, loads], 1)
    seen = Observations(x, trial, loads, y + 0.05 * rng.standard_normal(y.shape))
    dimensions = Dimensions.of(GROUPS)
    hyper = Hyperparameters.prior_mean(len(dimensions.names)).theta
    return fit(dimensions, seen, SPAN, Hyperparameters(hyper + 0.2 * rng.standard_normal(10)), 0)


def covariance(
    made: GaussianProcess, x: np.ndarray, u: np.ndarray, y: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Of rows (x, u) with rows (y, v), without noise."""
    apart = made.dimensions.distances2(x, y)
    found = kernel.configurations(apart, made.hyper) * kernel.loads(u, v, made.hyper)
    found += made.hyper.tail.slope * kernel.linear(x, u) @ kernel.linear(y, v).T
    return np.asarray(found + kernel.trend(u) @ kernel.trend(v).T)


def refitted(made: GaussianProcess, left_out: int, loads: np.ndarray) -> np.ndarray:
    """By the normal equations of the others, with the same hyperparameters, noise and scale."""
    seen, kept = made.seen, made.seen.trial != left_out
    trial = seen.trial[kept]
    rows, u, v = seen.x[trial], made.u[kept], made.scaled(loads)
    known = covariance(made, rows, u, rows, u)
    known += made.hyper.tail.start * (trial[:, None] == trial[None])
    cross = covariance(made, np.repeat(seen.x[left_out : left_out + 1], len(v), 0), v, rows, u)
    columns = [
        cross @ np.linalg.solve(known + noise * np.eye(len(u)), made.z[kept, output])
        for output, noise in enumerate(made.noise)
    ]
    return np.stack(columns, 1) * made.scale + made.mean


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=9), st.integers(0, 10_000))
def test_the_closed_form_is_that_of_a_process_of_the_others(sizes: list[int], seed: int) -> None:
    made = process(sizes, seed)
    loads = [np.linspace(*SPAN, 2 + trial % 4) for trial in range(len(sizes))]
    found = left_out_means(made, loads)
    assert len(found) == len(sizes)
    for trial, (at, means) in enumerate(zip(loads, found, strict=True)):
        np.testing.assert_allclose(means, refitted(made, trial, at), rtol=1e-4, atol=1e-4)


def test_a_left_out_trial_does_not_predict_itself() -> None:
    made = process([4] * 6, 3)
    seen = made.seen
    own = [seen.loads[seen.trial == trial] for trial in range(6)]
    shifted = Observations(seen.x, seen.trial, seen.loads, seen.y.copy())
    shifted.y[seen.trial == 2] += 0.5
    other = fit(made.dimensions, shifted, SPAN, made.hyper, 0)
    fields = {n: getattr(made, n) for n in GaussianProcess.__dataclass_fields__}
    same = GaussianProcess(**{**fields, "seen": shifted, "z": (shifted.y - made.mean) / made.scale})
    assert not np.allclose(made.means(seen.x[2:3], own[2]), other.means(seen.x[2:3], own[2]))
    np.testing.assert_allclose(left_out_means(same, own)[2], left_out_means(made, own)[2])
