"""What a curve is worth: the volume under the front, or what each tier sells. Pure.

The volume is written as a mean over directions, so that it is the same few lines for two axes and for five:

    HV(points) = c · mean over w of max over points of (minᵢ yᵢ / wᵢ)^k,   y > 0, reference 0

for directions w spread evenly over the positive part of the unit sphere (Deng and Zhang, Approximating
hypervolume and hypervolume contributions using polar coordinate, 2019); c does not matter here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PLANE = 64  # directions between two axes
SPHERE = 256  # directions between more


@dataclass(frozen=True, slots=True)
class Goal:
    """`axes` (front) or the one axis that is sold (tiers): metric → +1 (more is better) or −1.

    `limits`: tier → metric → limit. Of a front, a point counts if it keeps one of the tiers, or if there
    are none. `by_tier`: each tier is a direction of its own.
    """

    axes: Mapping[str, int]
    limits: Mapping[str, Mapping[str, float]]
    by_tier: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that has to be known of a level; the axes first."""
        limited = (name for limits in self.limits.values() for name in limits)
        return tuple(dict.fromkeys([*self.axes, *limited]))


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """A goal with its scales fixed, so that worths can be compared. `unit`: of each axis, (axes,); by tier,
    of what each tier sells, (tiers,)."""

    goal: Goal
    unit: Floats
    directions: Floats

    def worth(self, logs: Floats, counted: Bools) -> Floats:
        """(…, directions): the best of each curve. `logs` (…, loads, metrics), `counted` (…, loads)."""
        signs = np.array(list(self.goal.axes.values()), np.float64)
        axes = np.exp(signs * logs[..., : len(signs)])
        if not self.goal.by_tier:
            axes /= self.unit
        best = np.zeros((*logs.shape[:-2], self.width), np.float32)
        for level in range(logs.shape[-2]):
            here = logs[..., level, :]
            if self.goal.by_tier:
                ok = self._inside(here) & counted[..., level, None]
                reached = axes[..., level, :1] / self.unit
            else:
                ok = (self._inside(here).any(-1) & counted[..., level])[..., None]
                reached = self._reached(axes[..., level, :])
            np.maximum(best, np.where(ok, reached, 0), out=best)
        return best if self.goal.by_tier else best ** len(self.goal.axes)

    @property
    def width(self) -> int:
        return len(self.goal.limits) if self.goal.by_tier else len(self.directions)

    def _reached(self, axes: Floats) -> Floats:
        """How far along each direction: the least over the axes."""
        far = axes[..., None, 0] / self.directions[:, 0]
        for axis in range(1, axes.shape[-1]):
            far = np.minimum(far, axes[..., None, axis] / self.directions[:, axis])
        return far

    def _inside(self, logs: Floats) -> Bools:
        """(…, tiers); of a goal without tiers one that is always kept."""
        metrics = self.goal.metrics
        if not self.goal.limits:
            return np.ones((*logs.shape[:-1], 1), np.bool_)
        kept = []
        for limits in self.goal.limits.values():
            ok = np.ones(logs.shape[:-1], np.bool_)
            for name, limit in limits.items():
                ok &= logs[..., metrics.index(name)] <= np.log(limit)
            kept.append(ok)
        return np.stack(kept, -1)


def yardstick(goal: Goal, logs: Floats, counted: Bools) -> Yardstick:
    """Scales by the best that was measured, (trials, loads, metrics): each tier counts alike.

    A tier that nothing keeps yet has the scale of a quarter of the best.
    """
    signs = np.array(list(goal.axes.values()), np.float64)
    values = np.exp(signs * logs[..., : len(signs)])[counted]
    unit = values.max(0) if len(values) else np.ones(len(signs))
    plain = Yardstick(goal, unit, directions(len(signs)))
    if not goal.by_tier:
        return plain
    sold = Yardstick(goal, np.ones(len(goal.limits)), plain.directions).worth(logs, counted).max(0)
    return Yardstick(goal, np.where(sold > 0, sold, unit[0] / 4), plain.directions)


def directions(axes: int) -> Floats:
    """(n, axes), even over the positive part of the sphere."""
    if axes == 1:
        return np.ones((1, 1))
    if axes == 2:
        angle = (np.arange(PLANE) + 0.5) / PLANE * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    even = qmc.Sobol(axes, scramble=True, rng=0).random(SPHERE)
    normal = np.abs(ndtri(np.clip(even, 1e-6, 1 - 1e-6)))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def gains(worths: Floats, front: Floats) -> Floats:
    """(draws, n): what worths (draws, n, directions) add to the front's (draws, directions), as a share."""
    added = np.maximum(worths - front[:, None], 0).mean(-1)
    return np.asarray(added / np.maximum(front.mean(-1), 1e-9)[:, None])
