"""Tables of lengths, drawn once from a seed: the same number finds the same length anywhere. Pure."""

import numpy as np
from numpy.typing import NDArray

from loadgen.workload.lengths import Empirical, Length, LogNormal, Ranged, RangeRatio

TABLE = 1 << 16

Lengths = NDArray[np.int64]


def drawn_lengths(length: Length, random: np.random.Generator, count: int = TABLE) -> Lengths:
    """Independent draws, each inside what the distribution allows."""
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
    """By the inverse of the part of the distribution between the bounds: no piles at its ends."""
    from scipy.special import ndtr, ndtri

    edges = (np.log([length.low - 0.5, length.high + 0.5]) - np.log(length.median)) / length.sigma
    below, above = ndtr(edges)
    if above - below < 1e-12:
        return np.full(count, length.low if length.median < length.low else length.high, np.int64)
    uniform = below + (above - below) * random.random(count)
    drawn = np.exp(np.log(length.median) + length.sigma * ndtri(uniform))
    cut: Lengths = np.clip(np.rint(drawn), length.low, length.high).astype(np.int64)
    return cut
