"""What a curve adds: to the hypervolume under the front, or to the best of each tier. Pure.

The hypervolume is a mean over directions, so that it is the same few lines for two axes and for five:

    HV(points) = c · mean over w of max over points of (minᵢ yᵢ / wᵢ)^k,   y > 0, reference 0

for directions w spread evenly over the positive part of the unit sphere (Deng and Zhang, Approximating
hypervolume and hypervolume contributions using polar coordinate, 2019); the constant c cancels here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DIRECTIONS_2D = 64  # between two axes
DIRECTIONS_ND = 256  # between more


@dataclass(frozen=True, slots=True)
class Objective:
    """What a search maximises.

    `axes`: metric → +1 (more is better) or −1: those of the front or, `by_tier`, the target metric alone.
    `limits`: tier → metric → limit. Of a front, a load level counts if it meets the limits of any tier, or if
    there are no tiers. `by_tier`: each tier is a direction of its own.
    """

    axes: Mapping[str, int]
    limits: Mapping[str, Mapping[str, float]]
    by_tier: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that has to be known of a load level; the axes first."""
        limited = (name for limits in self.limits.values() for name in limits)
        return tuple(dict.fromkeys([*self.axes, *limited]))


@dataclass(frozen=True, slots=True, eq=False)
class Scalarization:
    """An objective with its scales fixed, so that curves can be compared.

    `unit`: the scale of each axis, (axes,); by tier, of the target metric in each tier, (tiers,).
    `directions`: (directions, axes).
    """

    objective: Objective
    unit: Floats
    directions: Floats

    def reached(self, logs: Floats, counted: Bools) -> Floats:
        """(…, width): how far each curve reaches in each direction, 0 where no level meets the limits.

        `logs`: (…, loads, metrics), logarithms; `counted`: (…, loads), the levels to look at.
        """
        signs = np.array(list(self.objective.axes.values()), np.float64)
        axes = np.exp(signs * logs[..., : len(signs)])
        if not self.objective.by_tier:
            axes /= self.unit
        best = np.zeros((*logs.shape[:-2], self.width), np.float32)
        for level in range(logs.shape[-2]):
            here = logs[..., level, :]
            if self.objective.by_tier:
                ok = self._inside(here) & counted[..., level, None]
                reached = axes[..., level, :1] / self.unit
            else:
                ok = (self._inside(here).any(-1) & counted[..., level])[..., None]
                reached = self._along_directions(axes[..., level, :])
            np.maximum(best, np.where(ok, reached, 0), out=best)
        return best if self.objective.by_tier else best ** len(self.objective.axes)

    @property
    def width(self) -> int:
        """How many directions there are."""
        return len(self.objective.limits) if self.objective.by_tier else len(self.directions)

    def _along_directions(self, axes: Floats) -> Floats:
        """(…, directions): minᵢ yᵢ / wᵢ."""
        far = axes[..., None, 0] / self.directions[:, 0]
        for axis in range(1, axes.shape[-1]):
            far = np.minimum(far, axes[..., None, axis] / self.directions[:, axis])
        return far

    def _inside(self, logs: Floats) -> Bools:
        """(…, tiers): whether the limits are met; without tiers one column that is always true."""
        metrics = self.objective.metrics
        if not self.objective.limits:
            return np.ones((*logs.shape[:-1], 1), np.bool_)
        kept = []
        for limits in self.objective.limits.values():
            ok = np.ones(logs.shape[:-1], np.bool_)
            for name, limit in limits.items():
                ok &= logs[..., metrics.index(name)] <= np.log(limit)
            kept.append(ok)
        return np.stack(kept, -1)


def scalarization(objective: Objective, logs: Floats, counted: Bools) -> Scalarization:
    """Scales by the best that was measured, (trials, loads, metrics), so that each tier weighs the same.

    A tier that no configuration meets yet has the scale of a quarter of the best.
    """
    signs = np.array(list(objective.axes.values()), np.float64)
    values = np.exp(signs * logs[..., : len(signs)])[counted]
    unit = values.max(0) if len(values) else np.ones(len(signs))
    plain = Scalarization(objective, unit, directions(len(signs)))
    if not objective.by_tier:
        return plain
    unscaled = Scalarization(objective, np.ones(len(objective.limits)), plain.directions)
    best = unscaled.reached(logs, counted).max(0)
    return Scalarization(objective, np.where(best > 0, best, unit[0] / 4), plain.directions)


def directions(axes: int) -> Floats:
    """(n, axes), even over the positive part of the unit sphere."""
    if axes == 1:
        return np.ones((1, 1))
    if axes == 2:
        angle = (np.arange(DIRECTIONS_2D) + 0.5) / DIRECTIONS_2D * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    even = qmc.Sobol(axes, scramble=True, rng=0).random(DIRECTIONS_ND)
    normal = np.abs(ndtri(np.clip(even, 1e-6, 1 - 1e-6)))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def gains(reached: Floats, front: Floats) -> Floats:
    """(draws, n): what curves add to the front, as a share of it.

    `reached`: (draws, n, directions) of the curves; `front`: (draws, directions).
    """
    added = np.maximum(reached - front[:, None], 0).mean(-1)
    return np.asarray(added / np.maximum(front.mean(-1), 1e-9)[:, None])
