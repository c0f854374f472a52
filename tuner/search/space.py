"""What a search may vary: typed parameters with conditions, and constraints between them. Pure.

A point maps dotted config paths to values. A parameter under `engine.X.` counts only where engine X
is the chosen one; with several engines the choice is itself the first dimension, `engine`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tuner.config.groups.space import ENGINE, Point, Scalar, Space, Suggest, _met, ordered


def engine_of(point: Point, engines: Sequence[str]) -> str:
    """The engine that a point chooses: said by the point itself only where there are several."""
    return str(point[ENGINE]) if len(engines) > 1 else engines[0]


def concerns(path: str, engine: str) -> bool:
    """Whether a path has a meaning for a trial of this engine."""
    return not path.startswith(f"{ENGINE}.") or path.startswith(f"{ENGINE}.{engine}.")


def active(
    space: Space, engines: Sequence[str], values: Point, fixed: Mapping[str, Any] | None = None
) -> list[str]:
    """The parameters that count, given the values chosen so far and those that the study fixes."""
    engine, known = engine_of(values, engines), {**(fixed or {}), **values}
    return [name for name in ordered(space) if _counts(space, name, engine, known)]


def sample(
    space: Space,
    engines: Sequence[str],
    suggest: Suggest,
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Scalar]:
    """One point, drawn parameter by parameter. It may break constraints: ask `violated`."""
    point: dict[str, Scalar] = {}
    if len(engines) > 1:
        point[ENGINE] = suggest.suggest_categorical(ENGINE, list(engines))
    engine = engine_of(point, engines)
    for name in ordered(space):
        if _counts(space, name, engine, {**(fixed or {}), **point}):
            point[name] = space.parameters[name].suggest(name, suggest)
    return point


def violated(
    space: Space, engines: Sequence[str], point: Point, fixed: Mapping[str, Any] | None = None
) -> list[str]:
    """Why the point is impossible: the reasons of the constraints it breaks."""
    engine, values = engine_of(point, engines), {**(fixed or {}), **point}
    return [
        constraint.reason
        for constraint in space.constraints.values()
        if all(concerns(path, engine) for path in constraint.paths())
        and not constraint.holds(values)
    ]


def enumerate_points(
    space: Space, engines: Sequence[str], fixed: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Scalar]]:
    """Every possible point, engine by engine; a ValueError if a parameter is continuous."""
    for name, parameter in space.parameters.items():
        if parameter.grid() is None:
            raise ValueError(f"{name} is continuous: give it a `step`, or use another search")
    order = ordered(space)
    for engine in engines:
        start: dict[str, Scalar] = {ENGINE: engine} if len(engines) > 1 else {}
        for point in _grow(space, order, engine, start, fixed or {}):
            if not violated(space, engines, point, fixed):
                yield point


def size(
    space: Space,
    engines: Sequence[str],
    fixed: Mapping[str, Any] | None = None,
    limit: int = 100_000,
) -> int | None:
    """How many points `enumerate_points` yields; None if continuous, or more than `limit`."""
    if any(parameter.grid() is None for parameter in space.parameters.values()):
        return None
    count = sum(1 for _ in islice(enumerate_points(space, engines, fixed), limit + 1))
    return count if count <= limit else None


def _grow(
    space: Space,
    rest: Sequence[str],
    engine: str,
    point: dict[str, Scalar],
    fixed: Mapping[str, Any],
) -> Iterator[dict[str, Scalar]]:
    if not rest:
        yield point
    elif not _counts(space, rest[0], engine, {**fixed, **point}):
        yield from _grow(space, rest[1:], engine, point, fixed)
    else:
        for value in space.parameters[rest[0]].grid() or ():
            yield from _grow(space, rest[1:], engine, {**point, rest[0]: value}, fixed)


def _counts(space: Space, name: str, engine: str, values: Mapping[str, Any]) -> bool:
    return concerns(name, engine) and _met(space.parameters[name].when, values)
