"""When the requests of a level fall due, from a seed. Pure."""

import numpy as np
from numpy.typing import NDArray

from loadgen.workload.arrivals import Arrival, Constant, Gamma, Poisson, Ramp, Step, Trace

Offsets = NDArray[np.int64]
Random = np.random.Generator


def offsets_ns(
    arrival: Arrival,
    index: int,
    horizon_s: float,
    seed: int,
    trace_due_s: NDArray[np.float64] | None = None,
) -> Offsets:
    """Rising offsets from the level's start, below the horizon, of all requests of an open loop.

    Arrivals are sampled without rescaling to a count or a mean: there may be more or fewer than
    rate × horizon. `index`: of the arrival's rate; with the seed it determines the sample.
    """
    random = np.random.default_rng((seed, index))
    match arrival:
        case Constant(rate_per_s=rates):
            return _ns(np.arange(np.ceil(horizon_s * rates[index])) / rates[index], horizon_s)
        case Poisson(rate_per_s=rates):
            return _ns(_renewals_s(rates[index], 1.0, horizon_s, random), horizon_s)
        case Gamma(rate_per_s=rates, burstiness=shape):
            return _ns(_renewals_s(rates[index], shape, horizon_s, random), horizon_s)
        case Ramp():
            return _ns(_ramp_s(arrival, random), horizon_s)
        case Step():
            return _ns(_step_s(arrival, horizon_s, random), horizon_s)
        case Trace(time_scale=scale) if trace_due_s is not None:
            return _ns(trace_due_s * scale, horizon_s)
    raise ValueError(f"an arrival of kind {arrival.kind} has no schedule")


def _ns(offsets_s: NDArray[np.float64], horizon_s: float) -> Offsets:
    return (offsets_s[offsets_s < horizon_s] * 1e9).astype(np.int64)


def _renewals_s(
    rate_per_s: float, shape: float, horizon_s: float, random: Random
) -> NDArray[np.float64]:
    """Cumulated gamma distributed gaps of mean 1 / rate; shape 1: exponential."""
    count = int(rate_per_s * horizon_s + 6 * (rate_per_s * horizon_s / shape) ** 0.5 + 16)
    sums = np.cumsum(random.gamma(shape, 1 / (rate_per_s * shape), count))
    while sums[-1] < horizon_s:
        more = np.cumsum(random.gamma(shape, 1 / (rate_per_s * shape), count))
        sums = np.concatenate((sums, sums[-1] + more))
    return sums


def _ramp_s(ramp: Ramp, random: Random) -> NDArray[np.float64]:
    """A unit Poisson process mapped through the inverse of the cumulative rate.

    Λ(t) = a t + (b - a) t² / 2T, solved for t in the form without cancellation for a near b.
    """
    a, b, over_s = ramp.from_per_s, ramp.to_per_s, ramp.over_s
    total = (a + b) / 2 * over_s
    unit = _renewals_s(1.0, 1.0, total, random)
    unit = unit[unit < total]
    slope = (b - a) / over_s
    times: NDArray[np.float64] = 2 * unit / (a + np.sqrt(a * a + 2 * slope * unit))
    return times


def _step_s(step: Step, horizon_s: float, random: Random) -> NDArray[np.float64]:
    last = len(step.rate_per_s) - 1
    parts = []
    for number, rate_per_s in enumerate(step.rate_per_s):
        begin_s = number * step.each_s
        length_s = horizon_s - begin_s if number == last else step.each_s
        if length_s > 0:
            times = _renewals_s(rate_per_s, 1.0, length_s, random)
            parts.append(begin_s + times[times < length_s])
    return np.concatenate(parts)


def staggered_offsets_ns(count: int, over_s: float) -> Offsets:
    """Evenly spaced starts of closed-loop users.

    Simultaneous starts would add a burst to the first latencies, and users would stay in step.
    """
    return (np.arange(count) * (over_s / count) * 1e9).astype(np.int64)
