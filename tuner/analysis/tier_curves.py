"""The measured curves of a search's trials, as its surrogate model takes them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point, Value
from tuner.config.resolve import default_points, fixed_values, laid_out, trial_config
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.tiers import utility
from tuner.trial.result import Completed, OperatingPoint

Floats = NDArray[np.float64]

ERROR_RATE = "error_rate"  # has no logarithm: levels that exceed its limit are left out


@dataclass(frozen=True, slots=True, eq=False)
class TrialCurve:
    """A trial's levels whose metrics are all known."""

    point: Point
    loads: Floats  # users, or requests/s
    y: Floats  # (loads, outputs): logarithms of the utility, then of what tiers limit
    whole: bool  # neither pruned nor cut short: its best is known

    def best(self, limits: Floats) -> Floats:
        """(tiers,): the best utility that it measured inside each."""
        counted = np.ones((1, len(self.loads)), np.bool_)
        return np.asarray(best_inside(limits, self.y[None], counted)[0])


def best_inside(limits: Floats, logs: Floats, counted: NDArray[np.bool_]) -> Floats:
    """(…, loads, outputs) → (…, tiers): the best utility inside each tier. `limits`: of `limits_of`."""
    inside = (logs[..., None, 1:] <= limits).all(-1) & counted[..., None]
    return np.asarray(np.where(inside, np.exp(logs[..., :1]), 0.0).max(axis=-2))


def outputs_of(study: StudyConfig) -> list[str]:
    """The metrics that the tiers limit, each once, without the error rate."""
    limited = (name for tier in study.slo.tiers.values() for name in tier.limits())
    return [name for name in dict.fromkeys(limited) if name != ERROR_RATE]


def limits_of(study: StudyConfig, outputs: Sequence[str]) -> Floats:
    """(tiers, outputs): the tiers' limits, logarithms; infinite where there is none."""
    rows = [
        [float(np.log(limits[name])) if name in limits else float("inf") for name in outputs]
        for limits in (tier.limits() for tier in study.slo.tiers.values())
    ]
    return np.array(rows).reshape(len(rows), len(outputs))


def curve_of(study: StudyConfig, entry: Finished, outputs: Sequence[str]) -> TrialCurve | None:
    """None without a level whose metrics are all known. A pruned trial has the start of its curve."""
    if not isinstance(entry.result, Completed):
        return None
    most_errors = max(tier.error_rate for tier in study.slo.tiers.values())
    rows = []
    for point in entry.result.points:
        load, row = point.load_value, _row(study, point, outputs)
        if load and row is not None and (point.metrics.get(ERROR_RATE) or 0.0) <= most_errors:
            rows.append((load, row))
    if not rows:
        return None
    loads, y = np.array([load for load, _ in rows]), np.array([row for _, row in rows])
    whole = not entry.result.pruned and not entry.result.cut_short
    return TrialCurve(entry.point, loads, y, whole)


def with_repeats(
    study: StudyConfig,
    trials: Sequence[TrialCurve],
    repeats: Sequence[Finished],
    outputs: Sequence[str],
) -> list[TrialCurve]:
    """The trials, each level the mean (of logarithms) over its repeats; then points that were only repeated."""
    found = {frozenset(trial.point.items()): trial for trial in trials}
    levels: dict[frozenset[tuple[str, Value]], dict[float, list[Floats]]] = {}
    for entry in repeats:
        curve, key = curve_of(study, entry, outputs), frozenset(entry.point.items())
        if curve is not None:
            found.setdefault(key, replace(curve, whole=False))
            rows = levels.setdefault(key, {})
            for load, row in zip(curve.loads.tolist(), curve.y, strict=True):
                rows.setdefault(load, []).append(row)
    for key, rows in levels.items():
        trial = found[key]
        own = [[row] for row in trial.y]
        more = [rows.get(load, []) for load in trial.loads.tolist()]
        y = [np.mean([*one, *others], axis=0) for one, others in zip(own, more, strict=True)]
        found[key] = replace(trial, y=np.array(y))
    return list(found.values())


def _row(study: StudyConfig, point: OperatingPoint, outputs: Sequence[str]) -> list[float] | None:
    target, metrics = study.objective.target, point.metrics
    value, limited = metrics.get(target.metric), [metrics.get(name) for name in outputs]
    if not point.valid or not value:
        return None
    known = [each for each in limited if each is not None and each > 0]
    if len(known) < len(outputs):
        return None
    return [float(np.log(utility(target, value))), *(float(np.log(each)) for each in known)]


class DeviceCounts:
    """Point → the devices of its trial, cached: few knobs decide, and building a configuration is slow."""

    def __init__(self, study: StudyConfig) -> None:
        self._study, self._fixed = study, fixed_values(study)
        self._known: dict[tuple[object, ...], float] = {}

    def __call__(self, point: Point) -> float:
        """The devices of a trial of the point."""
        sizing = {p: v for p, v in point.items() if p.startswith(("topology.", "hardware."))}
        key = tuple(sorted(sizing.items()))
        if key not in self._known:
            self._known[key] = self._counted(point, sizing)
        return self._known[key]

    def _counted(self, point: Point, sizing: Point) -> float:
        study = self._study
        if not any(path.startswith("hardware.") for path in sizing) and (
            study.hardware.twin is None or study.hardware.twin.pools is None
        ):
            return float(laid_out({**self._fixed, **sizing}).devices)
        engine = next(iter(default_points(study).values()))
        try:
            return float(trial_config(study, {**engine, **sizing}).devices)
        except ConfigError:
            return float(trial_config(study, point).devices)
