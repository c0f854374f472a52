"""Arrivals against their distributions; each test also rejects a wrong one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from loadgen.control.arrival_times import offsets_ns, staggered_offsets_ns
from loadgen.workload.arrivals import Arrival, Closed, Constant, Gamma, Poisson, Ramp, Step, Trace

ALPHA = 0.01


def gaps_s(arrival: Arrival, horizon_s: float = 100, seed: int = 1) -> NDArray[np.float64]:
    return np.diff(offsets_ns(arrival, 0, horizon_s, seed), prepend=0) / 1e9


def test_constant_gaps_are_equal() -> None:
    offsets = offsets_ns(Constant(rate_per_s=(50, 7)), 1, 3, seed=1)
    assert offsets.tolist() == [round(k / 7 * 1e9 - 0.5) for k in range(21)]


def test_poisson_gaps_are_exponential_and_counts_are_poisson() -> None:
    gaps = gaps_s(Poisson(rate_per_s=(100,)))
    assert stats.kstest(gaps, "expon", (0, 1 / 100)).pvalue > ALPHA
    assert stats.kstest(gaps, "expon", (0, 1 / 90)).pvalue < ALPHA
    assert stats.kstest(gaps_s(Constant(rate_per_s=(100,))), "expon", (0, 1 / 100)).pvalue < ALPHA
    counts = [len(offsets_ns(Poisson(rate_per_s=(20,)), 0, 5, seed)) for seed in range(400)]
    dispersion = float(np.var(counts, ddof=1) / np.mean(counts)) * (len(counts) - 1)
    assert ALPHA < stats.chi2.cdf(dispersion, len(counts) - 1) < 1 - ALPHA


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_burstiness_of_vllm(burstiness: float) -> None:
    gaps = gaps_s(Gamma(rate_per_s=(100,), burstiness=burstiness))
    scale = 1 / (100 * burstiness)
    assert stats.kstest(gaps, "gamma", (burstiness, 0, scale)).pvalue > ALPHA
    assert stats.kstest(gaps, "gamma", (burstiness * 1.3, 0, scale / 1.3)).pvalue < ALPHA


@pytest.mark.parametrize(("begin", "end"), [(10.0, 90.0), (90.0, 10.0), (50.0, 50.0)])
def test_a_ramp_mapped_through_its_cumulative_rate_is_a_unit_poisson_process(
    begin: float, end: float
) -> None:
    ramp = Ramp(from_per_s=begin, to_per_s=end, over_s=100)
    times_s = offsets_ns(ramp, 0, 1000, 1) / 1e9
    own = begin * times_s + (end - begin) * times_s**2 / 200
    assert stats.kstest(np.diff(own, prepend=0), "expon").pvalue > ALPHA
    assert stats.kstest(times_s / 100, "uniform").pvalue < ALPHA or begin == end
    assert times_s.max() < 100


def test_steps_have_their_rates_and_the_last_continues() -> None:
    step = Step(rate_per_s=(20, 80, 40), each_s=50)
    times_s = offsets_ns(step, 0, 200, 1) / 1e9
    for begin, end, rate in ((0, 50, 20), (50, 100, 80), (100, 200, 40)):
        inside = times_s[(times_s >= begin) & (times_s < end)]
        mean = rate * (end - begin)
        assert ALPHA < stats.poisson.cdf(len(inside), mean) < 1 - ALPHA
        assert stats.kstest(inside, "uniform", (begin, end - begin)).pvalue > ALPHA


def test_a_trace_is_replayed_at_its_scale() -> None:
    due_s = np.array([0.0, 0.5, 0.5, 2.0])
    offsets = offsets_ns(Trace(time_scale=2), 0, 3.9, 0, due_s)
    assert offsets.tolist() == [0, 10**9, 10**9]
    with pytest.raises(ValueError, match="no schedule"):
        offsets_ns(Trace(), 0, 1, 0)
    with pytest.raises(ValueError, match="closed has no schedule"):
        offsets_ns(Closed(concurrency=(1,)), 0, 1, 0)


ARRIVALS: tuple[Arrival, ...] = (
    Constant(rate_per_s=(30, 60)),
    Poisson(rate_per_s=(30, 60)),
    Gamma(rate_per_s=(30, 60), burstiness=0.5),
    Ramp(from_per_s=10, to_per_s=90, over_s=5),
    Step(rate_per_s=(10, 90), each_s=2),
)


@given(st.sampled_from(ARRIVALS), st.integers(0, 2**31), st.integers(1, 9))
def test_the_schedule_of_a_seed_does_not_depend_on_the_number_of_workers(
    arrival: Arrival, seed: int, workers: int
) -> None:
    whole = offsets_ns(arrival, 0, 5, seed)
    assert np.array_equal(whole, offsets_ns(arrival, 0, 5, seed))
    assert (np.diff(whole) >= 0).all()
    parts = np.concatenate([whole[worker::workers] for worker in range(workers)])
    assert np.array_equal(np.sort(parts), whole)


def test_other_seeds_and_levels_have_other_arrivals() -> None:
    arrival = Poisson(rate_per_s=(30, 30))
    one = offsets_ns(arrival, 0, 5, 1)
    assert not np.array_equal(one, offsets_ns(arrival, 1, 5, 1))
    assert not np.array_equal(one, offsets_ns(arrival, 0, 5, 2))
    assert staggered_offsets_ns(4, 2.0).tolist() == [0, 5 * 10**8, 10**9, 15 * 10**8]
