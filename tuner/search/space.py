"""The points of a search: which there are, how one is drawn, and which constraints it breaks. Pure.

A point maps dotted config paths to values. A parameter under `engine.X.` is active only where engine X is
chosen; with several engines the choice is itself the first dimension, `engine`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from serving.engines.flags import layouts
from serving.topology import Topology
from tuner.config.groups.space import (
    ENGINE,
    Parameter,
    Point,
    Space,
    Suggest,
    Value,
    condition_met,
    offers_unset,
    ordered,
)
from tuner.config.resolve import fixed_values, laid_out
from tuner.config.study import StudyConfig

LAYOUT = "topology."
COUNTED = 20_000  # points that are counted, for a message
COMBINATIONS_MAX = 250_000  # tried in seconds


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """A space together with everything else that decides which points it has.

    `engines`: their names. `fixed`: path → value of what the study sets and the search leaves alone. `largest`:
    the most (GPUs, CPU cores) that a node of the cluster has; None: unknown. `order`: the parameters, each
    after those that its condition names.
    """

    space: Space
    engines: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    largest: tuple[int, int] | None = None
    order: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(ordered(self.space)))

    @classmethod
    def of(cls, study: StudyConfig, largest: tuple[int, int] | None = None) -> "SearchSpace":
        """The space that a study searches."""
        if study.reserves != study.topology:
            largest = None  # servers that run elsewhere
        return cls(study.space, tuple(study.engine), fixed_values(study), largest)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Path → parameter, in the order of the configuration."""
        return self.space.parameters

    @property
    def knobs(self) -> tuple[str, ...]:
        """The paths of all dimensions; the choice of engine is one where there are several."""
        several = (ENGINE,) if len(self.engines) > 1 else ()
        return (*several, *self.parameters)

    def engine_of(self, point: Point) -> str:
        """The engine that a point chooses; the point names it only where there are several."""
        return str(point[ENGINE]) if len(self.engines) > 1 else self.engines[0]

    def active(self, values: Point) -> list[str]:
        """The parameters whose conditions hold, given these values and the fixed ones."""
        engine, known = self.engine_of(values), {**self.fixed, **values}
        return [name for name in self.order if self._is_active(name, engine, known)]

    def only_active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The values without those of inactive parameters."""
        active = {ENGINE, *self.active(values)}
        return {path: value for path, value in values.items() if path in active}

    def unset(self, point: Point, path: str) -> bool:
        """Whether a point leaves a parameter out that offers it: by choosing so, or by not naming it."""
        if not offers_unset(self.parameters[path]):
            return False
        if path in point:
            return point[path] is None
        known = {**self.fixed, **point}
        return path not in known and self._is_active(path, self.engine_of(point), known)

    def sample(self, suggest: Suggest) -> dict[str, Value]:
        """One point, drawn parameter by parameter. It may break constraints: see `violated`."""
        point: dict[str, Value] = {}
        if len(self.engines) > 1:
            point[ENGINE] = suggest.suggest_categorical(ENGINE, list(self.engines))
        engine = self.engine_of(point)
        for name in self.order:
            if self._is_active(name, engine, {**self.fixed, **point}):
                point[name] = self.parameters[name].suggest(name, suggest)
        return point

    def violated(self, point: Point) -> list[str]:
        """The reasons of the constraints that the point breaks, and why its engine can't lay the model out so;
        empty for a possible point."""
        engine, values = self.engine_of(point), {**self.fixed, **point}
        why = self._layout_refusal(engine, values)
        refused = [why] if why else []
        return refused + [
            constraint.reason
            for constraint in self.space.constraints.values()
            if all(concerns(path, engine) for path in constraint.paths())
            and not constraint.holds(values)
        ]

    def _layout_refusal(self, engine: str, values: Mapping[str, Any]) -> str:
        prefix = f"{ENGINE}.{engine}."
        own = {p.removeprefix(prefix): value for p, value in values.items() if p.startswith(prefix)}
        kind = str(own.get("kind", engine))
        reasons = (layouts.refusal(kind, each, own) for each in self.layout(values).layouts)
        return next(filter(None, reasons), "")

    def possible(self, point: Point) -> bool:
        """Whether the point breaks no constraint, and a node holds its layout."""
        return self.fits(point) and not self.violated(point)

    def fits(self, point: Point) -> bool:
        """Whether a node holds the point's layout."""
        return self.largest is None or self.layout(point).fits(*self.largest)

    def layout(self, point: Point) -> Topology:
        """How the point lays the model out over devices. Not validated."""
        return laid_out({**self.fixed, **point})

    def excluded(self) -> str:
        """Which layouts no node holds: a line; empty if there is none."""
        if self.largest is None:
            return ""
        paths = [path for path in self.parameters if path.startswith(LAYOUT)]
        grids = [self.parameters[path].grid() or () for path in paths]
        layouts = [dict(zip(paths, each, strict=True)) for each in product(*grids)]
        out = sum(not self.fits(each) for each in layouts)
        if not out:
            return ""
        whole = replace(self, largest=None)
        before, after = (each.all_points(COUNTED) for each in (whole, self))
        points = "" if before is None or after is None else (
            f", which are {len(before) - len(after)} of {len(before)} configurations"
        )  # fmt: skip
        gpus, cpus = self.largest
        return (
            f"{out} of {len(layouts)} layouts of the space{points}, fit no node (the largest has "
            f"{gpus} GPUs and {cpus} CPU cores for trials): they are not tried"
        )

    def enumerate_points(self) -> Iterator[dict[str, Value]]:
        """Every possible point, engine by engine. Raises ValueError if a parameter is continuous."""
        for name, parameter in self.parameters.items():
            if parameter.grid() is None:
                raise ValueError(f"{name} is continuous: give it a `step`, or use another search")
        yield from filter(self.possible, self._combinations())

    def all_points(self, limit: int) -> list[Point] | None:
        """Every possible point; None if a parameter is continuous, or there are more than `limit`, or too many
        combinations to try each."""
        if any(parameter.grid() is None for parameter in self.parameters.values()):
            return None
        points: list[Point] = []
        for tried, point in enumerate(self._combinations()):
            if self.possible(point):
                points.append(point)
            if len(points) > limit or tried >= COMBINATIONS_MAX:
                return None
        return points

    def _combinations(self) -> Iterator[dict[str, Value]]:
        """Possible points and others."""
        for engine in self.engines:
            start: dict[str, Value] = {ENGINE: engine} if len(self.engines) > 1 else {}
            yield from self._grow(self.order, engine, start)

    def _grow(
        self, rest: Sequence[str], engine: str, point: dict[str, Value]
    ) -> Iterator[dict[str, Value]]:
        if not rest:
            yield point
        elif not self._is_active(rest[0], engine, {**self.fixed, **point}):
            yield from self._grow(rest[1:], engine, point)
        else:
            for value in self.parameters[rest[0]].grid() or ():
                yield from self._grow(rest[1:], engine, {**point, rest[0]: value})

    def _is_active(self, name: str, engine: str, values: Mapping[str, Any]) -> bool:
        return concerns(name, engine) and condition_met(self.parameters[name].when, values)


def concerns(path: str, engine: str) -> bool:
    """Whether a path has a meaning for a trial of this engine."""
    return not path.startswith(f"{ENGINE}.") or path.startswith(f"{ENGINE}.{engine}.")
