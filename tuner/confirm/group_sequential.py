"""Group sequential tests: looks at results that still come in, at the false alarms of a single look. Pure.

The error is spent over the looks by the power family α t² (Kim and DeMets, Biometrika 74, 1987); the boundaries
follow by the recursion of Armitage, McPherson and Rowe (JRSS A 132, 1969). Student's quantiles at the same
nominal levels replace the normal ones where the variance is estimated (Pocock, Biometrika 64, 1977), which
raises the error by up to a fifth where few repeats estimate it: so much less is spent.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

POWER = 2.0  # 1 spends evenly, 3 nearly as late as O'Brien and Fleming
STUDENT_INFLATION = 1.2  # the most by which Student's quantiles raise the error of normal ones
NODES = 160  # of the quadrature: boundaries are good to about 1e-6
TAIL = 8.5  # standard deviations beyond which the density is taken as 0

Floats = NDArray[np.float64]


@cache
def nominal_levels(first: int, last: int, level: float) -> tuple[float, ...]:
    """One-sided p-values that looks after `first`, `first` + 1, … `last` repeats must fall below.

    The probability that any look does so without a difference is `level` at most, with two candidates or more
    and a variance that is estimated from the same repeats.
    """
    from scipy.special import ndtr

    fractions = np.arange(first, last + 1) / last
    spent = level / STUDENT_INFLATION * fractions**POWER
    return tuple(ndtr(-boundaries(fractions, spent)).tolist())


def boundaries(fractions: Sequence[float] | Floats, spent: Sequence[float] | Floats) -> Floats:
    """(looks,): z values; by each look the first crossing has the probability `spent`.

    `fractions` of the information at the looks, rising to 1. The tests are one-sided, of a mean of normal
    values.
    """
    from scipy.special import ndtri

    times = np.asarray(fractions, np.float64)
    increments = np.diff(np.asarray(spent, np.float64), prepend=0.0)
    crossings = [-ndtri(increments[0]) * times[0] ** 0.5]  # on the scale of the sum
    nodes, weights = np.polynomial.legendre.leggauss(NODES)

    def grid(look: int) -> tuple[Floats, Floats]:
        """Points at which the sum may be without having crossed, and their weights."""
        low, high = -TAIL * times[look] ** 0.5, crossings[look]
        return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2

    at, width = grid(0)
    mass = width * np.exp(-(at**2) / (2 * times[0])) / (2 * np.pi * times[0]) ** 0.5
    for look in range(1, len(times)):
        step = float(times[look] - times[look - 1]) ** 0.5
        crossings.append(_crossing(at, mass, step, float(increments[look])))
        then, width = grid(look)
        away = (then[:, None] - at[None, :]) / step
        mass = width * (np.exp(-(away**2) / 2) @ mass) / (step * (2 * np.pi) ** 0.5)
        at = then
    found: Floats = np.array(crossings) / times**0.5
    return found


def _crossing(at: Floats, mass: Floats, step: float, wanted: float) -> float:
    """The value that the sum exceeds with the `wanted` probability, one step on from `at`."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def excess(crossing: float) -> float:
        return float(mass @ ndtr((at - crossing) / step)) - wanted

    return float(brentq(excess, -TAIL, TAIL, xtol=1e-10))
