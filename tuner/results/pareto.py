"""Dominance, the Pareto front and its exact hypervolume, over any objectives. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.config.groups.objective import Axis, Direction
from tuner.trial.result import OperatingPoint, TrialResult

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """`index`: which of the results it came from. `values`: one for each axis, in its unit."""

    index: int
    result: TrialResult
    point: OperatingPoint
    values: tuple[float, ...]


def non_dominated(points: ArrayLike, directions: Sequence[Direction]) -> NDArray[np.bool_]:
    """The rows that no other dominates: is nowhere worse, and somewhere better. Equal rows stay together."""
    losses = _losses(points, directions)
    mask = np.zeros(len(losses), dtype=bool)
    if not len(losses):
        return mask
    unique, inverse = np.unique(losses, axis=0, return_inverse=True)  # sorted: dominators first
    kept = _front_of_pairs(unique) if unique.shape[1] == 2 else _front(unique)
    return kept[inverse.reshape(-1)]


def hypervolume(
    points: ArrayLike, reference: Sequence[float], directions: Sequence[Direction]
) -> float:
    """The exact volume between the points and `reference`. A point not better than it adds none."""
    losses = _losses(points, directions)
    corner = _losses([reference], directions)[0]
    inside = losses[(losses < corner).all(axis=1)]
    return _volume(inside, corner)


def pareto_set(results: Sequence[TrialResult], axes: Sequence[Axis]) -> tuple[FrontPoint, ...]:
    """The front over every valid operating point of the completed trials, best first axis first.

    A point that lacks a value on an axis can't be compared, and is left out.
    """
    candidates = list(_candidates(results, axes))
    directions = [axis.direction for axis in axes]
    mask = non_dominated(
        np.array([c.values for c in candidates]).reshape(-1, len(axes)), directions
    )
    front = [candidate for candidate, kept in zip(candidates, mask, strict=True) if kept]
    sign = -1 if directions[0] == "max" else 1
    return tuple(sorted(front, key=lambda c: (sign * c.values[0], c.index, c.point.level)))


def _candidates(results: Sequence[TrialResult], axes: Sequence[Axis]) -> Iterable[FrontPoint]:
    for index, result in enumerate(results):
        for point in result.points if result.status == "completed" else ():
            values = tuple(
                value for axis in axes if (value := point.metrics.get(axis.metric)) is not None
            )
            if point.valid and len(values) == len(axes):
                yield FrontPoint(index, result, point, values)


def _losses(points: ArrayLike, directions: Sequence[Direction]) -> Floats:
    """Rows in which smaller is better."""
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    rows = np.asarray(points, dtype=np.float64).reshape(-1, len(signs))
    if np.isnan(rows).any():
        raise ValueError("a point with a NaN can't be compared")
    losses: Floats = rows * signs
    return losses


def _front_of_pairs(rows: Floats) -> NDArray[np.bool_]:
    """Sorted distinct rows: one stays if it is better in the second column than all before it."""
    best = np.minimum.accumulate(rows[:, 1])
    mask = np.ones(len(rows), dtype=bool)
    mask[1:] = rows[1:, 1] < best[:-1]
    return mask


def _front(rows: Floats) -> NDArray[np.bool_]:
    """Sorted distinct rows: only a row before it, and on the front itself, can dominate one."""
    mask = np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        mask[i] = not (rows[:i][mask[:i]] <= row).all(axis=1).any()
    return mask


def _volume(rows: Floats, corner: Floats) -> float:
    """All rows lie strictly inside `corner`. Beyond two axes it sums exclusive volumes (WFG)."""
    if not len(rows):
        return 0.0
    if rows.shape[1] == 1:
        return float(corner[0] - rows.min())
    rows = np.unique(rows, axis=0)
    if rows.shape[1] == 2:
        rows = rows[_front_of_pairs(rows)]
        heights = np.concatenate(([corner[1]], rows[:-1, 1])) - rows[:, 1]
        return float(((corner[0] - rows[:, 0]) * heights).sum())
    rows = rows[_front(rows)]
    total = 0.0
    for i, row in enumerate(rows):
        shared = np.maximum(rows[i + 1 :], row)  # what the later ones cover of this row's box
        total += float(np.prod(corner - row)) - _volume(shared, corner)
    return total
