"""Random points of a study's space, and the engines that they make."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from serving.engines import BaseEngine
from serving.topology import Topology
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import _put
from tuner.config.study import StudyConfig
from tuner.search.space import SearchSpace


class Drawn:
    """Random values, as `Suggest`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        count = round((high - low) / step) if step else 0
        return low + self._random.randint(0, count) * (step or 0.0)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(list(choices))


@dataclass(frozen=True, slots=True)
class DrawnTrial:
    """The engine and the layout of a point, without the rest of its trial."""

    point: Point
    engine: BaseEngine
    topology: Topology


def drawn_trials(study: StudyConfig, count: int, seed: int = 15) -> Iterator[DrawnTrial]:
    """So many possible points, whatever a node of a cluster has."""
    space, drawn, found = SearchSpace.of(study), Drawn(seed), 0
    while found < count:
        point = space.sample(drawn)
        if space.possible(point):
            found += 1
            yield built(study, space.engine_of(point), point)


def built(study: StudyConfig, name: str, point: Point) -> DrawnTrial:
    """Without the checks of a whole trial, which take a millisecond."""
    data: dict[str, Any] = {
        ENGINE: {name: study.engine[name].model_dump()},
        **study.model_dump(include={"topology", "model", "power"}),
    }
    for path, value in point.items():
        if path != ENGINE:
            _put(data, path, value)
    engine = type(study.engine[name]).model_validate(data[ENGINE][name])
    return DrawnTrial(point, engine, Topology.model_validate(data["topology"]))
