"""The first trials: each level of each dimension, and each pair of levels, as evenly as may be. Pure."""

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve.kernel import Dimensions, Floats, Ints

BINS = 4  # of a dimension with more values than that many levels
LEVELS = 8
PAIRS = 0.5  # what a new pair of levels counts against a new level


def rarity(x: Floats, dimensions: Dimensions, tried: Ints, of: Ints) -> Floats:
    """(n,) how rare the levels of each point `of` are among those `tried`: the sum over dimensions of
    1 / (1 + times tried)², and the same over pairs of dimensions."""
    codes = np.array([_levels(x[:, columns]) for columns in dimensions.columns])
    single = sum(_rare(code[tried], code[of]) for code in codes)
    count = len(codes)
    both = [(codes[i] * 1000 + codes[j]) for i in range(count) for j in range(i)]
    if not both:
        return np.asarray(single)
    pairs = sum(_rare(code[tried], code[of]) for code in both)
    return np.asarray(single / count + PAIRS * pairs / len(both))


def _rare(tried: Ints, of: Ints) -> Floats:
    levels, counts = np.unique(tried, return_counts=True)
    known = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    return np.array([1 / (1 + known.get(level, 0)) ** 2 for level in of.tolist()])


def _levels(columns: NDArray[np.float64]) -> Ints:
    values, codes = np.unique(columns, axis=0, return_inverse=True)
    if columns.shape[1] > 1 or len(values) <= LEVELS:
        return np.asarray(codes.reshape(-1), np.int64)
    return np.asarray(np.minimum(columns[:, 0] * BINS, BINS - 1), np.int64)
