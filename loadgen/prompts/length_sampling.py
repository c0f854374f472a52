"""Tables of lengths, sampled once from a seed: request i has the same length in every process. Pure."""

import numpy as np
from numpy.typing import NDArray

from loadgen.workload.lengths import Empirical, Length, LogNormal, Ranged, RangeRatio

TABLE = 1 << 16

Lengths = NDArray[np.int64]


def sample_lengths(length: Length, random: np.random.Generator, count: int = TABLE) -> Lengths:
    """`count` independent samples, each within the bounds of the distribution."""
    match length:
        case int():
            return np.full(count, length, np.int64)
        case Ranged(low=low, high=high):
            return random.integers(low, high, count, endpoint=True)
        case RangeRatio(tokens=tokens, ratio=ratio):
            return random.integers(max(1, round(ratio * tokens)), tokens, count, endpoint=True)
        case LogNormal():
            return _lognormal(length, random, count)
        case Empirical(values=values, weights=weights):
            shares = np.array(weights or [1.0] * len(values))
            return random.choice(np.array(values, np.int64), count, p=shares / shares.sum())


def _lognormal(length: LogNormal, random: np.random.Generator, count: int) -> Lengths:
    """Truncated log-normal by inverse transform: clipping would pile up samples at the bounds."""
    from scipy.special import ndtr, ndtri

    edges = (np.log([length.low - 0.5, length.high + 0.5]) - np.log(length.median)) / length.sigma
    below, above = ndtr(edges)
    if above - below < 1e-12:
        return np.full(count, length.low if length.median < length.low else length.high, np.int64)
    uniform = below + (above - below) * random.random(count)
    samples = np.exp(np.log(length.median) + length.sigma * ndtri(uniform))
    rounded: Lengths = np.clip(np.rint(samples), length.low, length.high).astype(np.int64)
    return rounded
