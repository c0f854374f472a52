"""What the points of a study mean to its engines: values of unset knobs, and knobs without effect."""

from collections.abc import Hashable, Mapping
from typing import Any

from serving.engines import ENGINES
from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point, Value, activating, values_to_try
from tuner.config.resolve import default_points, fixed_values, trial_config
from tuner.config.study import StudyConfig
from tuner.trial.behaviour import behaviour, default_quantities


class EngineSettings:
    """Of one study.

    `unset`: path → the value that the engine takes where a point has none, as far as that is known. `inert`:
    paths of knobs whose every value gives the engine the same settings.
    """

    def __init__(self, study: StudyConfig) -> None:
        self._study = study
        self._known: dict[Hashable, Hashable] = {}
        self.unset: dict[str, Any] = {}
        self.inert = frozenset(path for path in _concerned(study) if self._look_at(path))

    def same(self, one: Point, other: Point) -> bool:
        """Whether the engine gets the same settings at both points."""
        return self._behaviour(one) == self._behaviour(other)

    def relevant(self, point: Point) -> dict[str, Value]:
        """The point without inert knobs."""
        return {path: value for path, value in point.items() if path not in self.inert}

    def _look_at(self, path: str) -> bool:
        """Keeps the value that the unset knob has. Returns whether the knob is inert."""
        engine = path.split(".")[1] if path.startswith(f"{ENGINE}.") else None
        defaults = default_points(self._study)
        plain = defaults.get(str(engine), next(iter(defaults.values())))
        default = {**plain, **activating(self._study.space, path)}
        values = values_to_try(self._study.space.parameters[path])
        same = [value for value in values if self.same(default, {**default, path: value})]
        if None in values or engine is None or path in fixed_values(self._study):
            return len(same) == len(values)
        knob, kind = path.split(".", 2)[2], self._study.engine[engine].kind
        if same:
            self.unset[path] = same[0]
        elif knob in ENGINES[kind].unset_means:
            self.unset[path] = ENGINES[kind].unset_means[knob]
        elif quantity := self._quantities(default).get(ENGINES[kind].meanings.get(knob, "")):
            self.unset[path] = quantity
        return len(same) == len(values)

    def _quantities(self, point: Point) -> Mapping[str, float]:
        try:
            return default_quantities(trial_config(self._study, point))
        except ConfigError:
            return {}

    def _behaviour(self, point: Point) -> Hashable:
        key = frozenset(point.items())
        if key not in self._known:
            try:
                self._known[key] = behaviour(trial_config(self._study, point))
            except ConfigError:
                self._known[key] = key  # impossible: like no other
        return self._known[key]


def _concerned(study: StudyConfig) -> list[str]:
    """The parameters of the space that concern an engine of the study: a space may have those of others."""
    return [
        path
        for path in study.space.parameters
        if not path.startswith(f"{ENGINE}.") or path.split(".")[1] in study.engine
    ]
