"""The first trials: every level of each dimension, and every pair of levels, as evenly as possible. Pure."""

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve.kernel import Dimensions, Floats, Ints

LEVELS = 8  # values up to which each value of a dimension is a level of its own
BINS = 4  # levels of a dimension with more values
PAIRS_WEIGHT = 0.5  # a new pair of levels against a new level


def levels(x: Floats, dimensions: Dimensions) -> Ints:
    """(dimensions, points): the number of each point's level in each dimension. `x`: (points, d), encoded."""
    return np.array([_levels(x[:, columns]) for columns in dimensions.columns])


def rarity(codes: Ints, tried: Ints, of: Ints) -> Floats:
    """(n,): how rare the levels of each point `of` are among those `tried`.

    The mean over dimensions of 1 / (1 + times tried)², plus the weighted mean over pairs of dimensions of the
    same. `codes`: as `levels` gives them; `tried`, `of`: points.
    """
    before, ours = codes[:, tried], codes[:, of]
    single = sum(map(_rarity, before, ours))
    count = len(codes)
    combined = [(i, j) for i in range(count) for j in range(i)]
    if not combined:
        return np.asarray(single)
    pairs = sum(
        _rarity(before[i] * 1000 + before[j], ours[i] * 1000 + ours[j]) for i, j in combined
    )
    return np.asarray(single / count + PAIRS_WEIGHT * pairs / len(combined))


def _rarity(tried: Ints, of: Ints) -> Floats:
    levels, counts = np.unique(tried, return_counts=True)
    if not len(levels):
        return np.ones(len(of))
    place = np.minimum(np.searchsorted(levels, of), len(levels) - 1)
    known = np.where(levels[place] == of, counts[place], 0)
    return np.asarray(1 / (1 + known) ** 2)


def _levels(columns: NDArray[np.float64]) -> Ints:
    values, codes = np.unique(columns, axis=0, return_inverse=True)
    if columns.shape[1] > 1 or len(values) <= LEVELS:
        return np.asarray(codes.reshape(-1), np.int64)
    return np.asarray(np.minimum(columns[:, 0] * BINS, BINS - 1), np.int64)
