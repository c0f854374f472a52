"""How probable it is that a point's trial completes, learnt from the trials that failed. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TREES = 25
PRIOR_FAILURES = (
    0.2  # failures after which forest and plain rate weigh the same: few, as most repeat
)
MIN_PROBABILITY = 0.005  # no point is ruled out


def completion_probability(x: Floats, failed: Mapping[int, bool], of: NDArray[np.int64]) -> Floats:
    """(n,): the probability that a trial of each point `of` completes.

    `x`: (points, d), encoded; `failed`: index of a tried point → whether its trial failed. A random forest, as
    what does not work is a box in the space (this engine with that precision) rather than a slope.
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
    weight, plain = failures / (failures + PRIOR_FAILURES), 1 - failures / len(failed)
    probability = weight * forest.predict_proba(x[of])[:, 0] + (1 - weight) * plain
    return np.asarray(np.maximum(probability, MIN_PROBABILITY))
