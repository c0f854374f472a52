"""Which points will probably work at all, by those that failed. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TREES = 25
DOUBT = 0.2  # failures that it takes to believe the forest half: what dies once by its log mostly dies again
LEAST = 0.005  # no point is ruled out


def likely(x: Floats, failed: Mapping[int, bool], of: NDArray[np.int64]) -> Floats:
    """(n,) the probability that a trial of each point completes. `failed`: what trials of points came to.

    A forest, as what does not work is a box in the space (this engine with that precision), not a slope.
    """
    if not any(failed.values()):
        return np.ones(len(of))
    if all(failed.values()):
        return np.full(len(of), 0.5)
    from sklearn.ensemble import RandomForestClassifier

    known = np.array(sorted(failed), np.int64)
    forest = RandomForestClassifier(TREES, random_state=0, min_samples_leaf=1, max_features=None)
    forest.fit(x[known], [failed[i] for i in known])
    failures = sum(failed.values())
    belief, plain = failures / (failures + DOUBT), 1 - failures / len(failed)
    odds = belief * forest.predict_proba(x[of])[:, 0] + (1 - belief) * plain
    return np.asarray(np.maximum(odds, LEAST))
