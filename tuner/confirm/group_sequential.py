"""Looks at results that are still coming in, without more false alarms than one look would give. Pure.

The error is spent over the looks by the power family α t² (Kim and DeMets, Biometrika 74, 1987); the boundaries
follow by the recursion of Armitage, McPherson and Rowe (JRSS A 132, 1969). Student's quantiles at the same
nominal levels stand in for the normal ones where the variance is estimated (Pocock, Biometrika 64, 1977), which
raises the error by up to a fifth where few repeats estimate it: so much less is spent.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

POWER = 2.0  # 1 spends evenly, 3 nearly as late as O'Brien and Fleming
STUDENT = 1.2  # by which the error of Student's quantiles exceeds that of normal ones at most
NODES = 160  # of the quadrature: boundaries are good to some 1e-6
TAIL = 8.5  # standard deviations; what lies beyond is nothing

Floats = NDArray[np.float64]


@cache
def nominal_levels(first: int, last: int, level: float) -> tuple[float, ...]:
    """One-sided p-values that looks after `first`, `first` + 1, … `last` repeats must fall below.

    The chance that any of them does so although there is nothing to see is `level` at most, with two
    contenders or more and a variance that is estimated from the same repeats.
    """
    from scipy.special import ndtr

    fractions = np.arange(first, last + 1) / last
    return tuple(ndtr(-boundaries(fractions, level / STUDENT * fractions**POWER)).tolist())


def boundaries(fractions: Sequence[float] | Floats, spent: Sequence[float] | Floats) -> Floats:
    """z values, one a look, whose first crossing by then has the probability `spent`.

    `fractions` of the information, rising to 1; the tests are one-sided, of a mean of normal values.
    """
    from scipy.special import ndtri

    times = np.asarray(fractions, np.float64)
    increments = np.diff(np.asarray(spent, np.float64), prepend=0.0)
    crossings = [-ndtri(increments[0]) * times[0] ** 0.5]  # on the scale of the sum
    nodes, weights = np.polynomial.legendre.leggauss(NODES)

    def grid(look: int) -> tuple[Floats, Floats]:
        """Where the sum may be if it has not crossed: points and their weights."""
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
    """What the sum passes with that probability, one step on from where it may be."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def excess(crossing: float) -> float:
        return float(mass @ ndtr((at - crossing) / step)) - wanted

    return float(brentq(excess, -TAIL, TAIL, xtol=1e-10))
