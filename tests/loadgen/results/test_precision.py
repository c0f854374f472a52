"""Coverage of the confidence intervals, by simulation with a known true value."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from loadgen.results.precision import (
    STUDENT_T,
    Interval,
    next_check_s,
    precise,
    rate_interval,
    series_interval,
)

Floats = NDArray[np.float64]
ENOUGH = 0.93


def autoregressive(phi: float, runs: int, length: int, seed: int = 1) -> Floats:
    """Mean 1, deviation 0.3, lag-1 correlation phi."""
    noise = np.random.default_rng(seed).normal(size=(runs, length))
    noise[:, 0] /= (1 - phi**2) ** 0.5
    made: Floats = 1 + 0.3 * (1 - phi**2) ** 0.5 * lfilter([1], [1, -phi], noise, axis=1)
    return made


def queue(load: float, runs: int, length: int) -> Floats:
    """Times in an M/M/1 queue with service of mean 1 (Lindley); their mean is 1 / (1 - load)."""
    random, warm = np.random.default_rng(2), 1000
    gaps = random.exponential(1 / load, (length + warm, runs))
    service = random.exponential(1, (length + warm, runs))
    wait, made = np.zeros(runs), np.empty((length, runs))
    for k in range(length + warm - 1):
        if k >= warm:
            made[k - warm] = wait + service[k]
        wait = np.maximum(0, wait + service[k] - gaps[k + 1])
    made[-1] = wait + service[-1]
    return made.T


def lognormal(runs: int, length: int) -> Floats:
    return np.random.default_rng(3).lognormal(0, 1, (runs, length))


def coverage(runs: Floats, truth: float, make: Callable[[Floats], Interval | None]) -> float:
    found = [make(run) for run in runs]
    return float(np.mean([i is not None and i.low <= truth <= i.high for i in found]))


def mean(run: Floats) -> Interval | None:
    return series_interval(run, "mean")


def median(run: Floats) -> Interval | None:
    return series_interval(run, "median")


@pytest.mark.parametrize("length", [20, 100, 2000])
def test_independent_samples(length: int) -> None:
    assert coverage(autoregressive(0, 1000, length), 1, mean) >= ENOUGH
    assert coverage(lognormal(1000, length), 1, median) >= ENOUGH


@pytest.mark.parametrize(("phi", "length"), [(0.5, 50), (0.5, 1000), (0.9, 200), (0.9, 2000)])
def test_correlated_samples(phi: float, length: int) -> None:
    runs = autoregressive(phi, 1000, length)
    assert coverage(runs, 1, mean) >= ENOUGH


def test_an_interval_for_independent_samples_is_too_narrow() -> None:
    def naive(run: Floats) -> Interval:
        half = stats.t.ppf(0.975, len(run) - 1) * stats.sem(run)
        return Interval(run.mean(), run.mean() - half, run.mean() + half, len(run))

    assert coverage(autoregressive(0.9, 500, 1000), 1, naive) < 0.6


@pytest.mark.parametrize(("load", "length"), [(0.5, 1000), (0.8, 8000)])
def test_waits_in_a_queue(load: float, length: int) -> None:
    assert coverage(queue(load, 400, length), 1 / (1 - load), mean) >= ENOUGH


def stopped(
    run: Floats, asked: float, make: Callable[[Floats], Interval | None]
) -> Interval | None:
    """Stops as a level does: checks at growing distances, stops after two precise ones in a row."""
    size, narrow = 100.0, 0
    while size <= len(run):
        found = make(run[: int(size)])
        narrow = narrow + 1 if precise([found], asked) else 0
        if narrow == 2:
            return found
        size = next_check_s(size)
    return None


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("runs", "truth", "asked", "make"),
    [
        (autoregressive(0.5, 400, 6000), 1.0, 0.03, mean),
        (autoregressive(0.9, 400, 20000), 1.0, 0.05, mean),
        (lognormal(400, 20000), 1.0, 0.06, median),
        (queue(0.5, 300, 20000), 2.0, 0.1, mean),
    ],
    ids=["ar 0.5", "ar 0.9", "lognormal median", "queue"],
)
def test_stopping_when_precise_keeps_the_coverage(
    runs: Floats, truth: float, asked: float, make: Callable[[Floats], Interval | None]
) -> None:
    found = [interval for run in runs if (interval := stopped(run, asked, make)) is not None]
    assert len(found) > 0.9 * len(runs)
    assert np.mean([i.low <= truth <= i.high for i in found]) >= ENOUGH
    assert np.mean([abs(i.value / truth - 1) <= asked for i in found]) >= ENOUGH


def test_throughput_of_users_in_a_closed_loop() -> None:
    """Eight users whose requests share slow and fast phases: arrivals per second are correlated."""
    random, hits, runs = np.random.default_rng(5), 0, 300
    for _ in range(runs):
        pace = np.exp(autoregressive(0.9, 1, 4000, int(random.integers(1 << 30)))[0] - 1)
        times = np.cumsum(pace / pace.mean())
        truth = 1 / float(np.exp(0.3**2 / 2)) * float(pace.mean())
        found = rate_interval(
            (times * 1e9).astype(np.int64), np.ones(4000), 0, int(times[-1] * 1e9)
        )
        assert found is not None
        # In units of each run's own clock the long-run rate is the mean pace over its expectation.
        hits += found.low <= truth <= found.high
    assert hits / runs >= ENOUGH


def test_student_t_table() -> None:
    for batches, value in STUDENT_T.items():
        assert value == pytest.approx(stats.t.ppf(0.975, batches - 1), abs=1e-5)


def test_too_few_samples_have_no_interval() -> None:
    assert series_interval(np.ones(19)) is None
    assert rate_interval(np.arange(19), np.ones(19), 0, 100) is None
    assert not precise([None], 0.5)
    same = series_interval(np.ones(40))
    assert same is not None
    assert same.relative_half_width == 0


def test_a_fixed_count_of_requests_is_too_many_or_too_few() -> None:
    """10 × users requests, as public benchmarks do, against stopping at ±3 %: requests needed."""
    needed = {}
    for users in (1, 16, 512):
        widths, counts = [], []
        for seed in range(60):
            run = autoregressive(0.5, 1, 6000, 1000 * users + seed)[0]
            fixed = mean(run[: max(20, 10 * users)])
            assert fixed is not None
            widths.append(fixed.relative_half_width)
            size = 40.0
            while size < len(run) and not precise([mean(run[: int(size)])], 0.03):
                size = next_check_s(size)
            counts.append(size)
        needed[users] = (float(np.median(widths)), float(np.median(counts)))
    assert needed[1][0] > 0.1  # 20 requests are too few
    assert needed[512][0] < 0.025  # 5,120 requests are more than needed
    assert needed[512][1] < 0.5 * 5120
