"""Which measured curves a surrogate is fitted to where there are many, as its cost is their cube. Pure."""

from collections.abc import Callable

import numpy as np

from tuner.search.curve.kernel import Floats, Ints

MAX_CURVES = 96  # up to which all are fitted
RENEWED_AFTER = MAX_CURVES // 8  # further curves; until then each of them is fitted as well


class CurveSelection:
    """Which of the curves of a growing search are fitted: all, or at most `MAX_CURVES`, the latest among them.

    It depends on the curves alone, not on when it was asked for before.
    """

    def __init__(self) -> None:
        self._of, self._chosen = 0, np.empty(0, np.int64)

    def among(self, count: int, described: Callable[[int], tuple[Floats, Floats]]) -> Ints:
        """The indices, rising, into `count` curves. `described`: of the first n curves, what `representative`
        needs to know."""
        if count <= MAX_CURVES:
            return np.arange(count)
        earlier = count - 1 - (count - MAX_CURVES - 1) % RENEWED_AFTER
        if earlier != self._of:
            self._chosen = representative(*described(earlier), MAX_CURVES - RENEWED_AFTER)
            self._of = earlier
        return np.append(self._chosen, np.arange(earlier, count))


def representative(x: Floats, reached: Floats, most: int) -> Ints:
    """The indices, rising, of at most `most` curves: half of them the nearest to the front (more, if more reach
    it), the others those that are furthest from all chosen before.

    `x`: (n, d), encoded configurations; `reached`: (n, directions), how far each curve reaches.
    """
    if len(x) <= most:
        return np.arange(len(x))
    front = np.maximum(reached.max(0), np.finfo(np.float64).tiny)
    near = (reached / front).max(1)
    on_front = min(int((near >= 1).sum()), 3 * most // 4)
    nearest = np.argsort(-near, kind="stable")[: max(most // 2, on_front)]
    chosen, apart = nearest.tolist(), np.full(len(x), np.inf)
    for index in chosen:
        apart = np.minimum(apart, ((x - x[index]) ** 2).sum(1))
    apart[chosen] = -1.0
    while len(chosen) < most:
        chosen.append(furthest := int(apart.argmax()))
        apart = np.minimum(apart, ((x - x[furthest]) ** 2).sum(1))
        apart[furthest] = -1.0
    return np.sort(np.array(chosen, np.int64))
