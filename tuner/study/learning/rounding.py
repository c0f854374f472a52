"""Rounds figures to the digits that mean something, before anything is derived or learnt from them. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite

from tuner.trial.result import Completed, Measured, OperatingPoint, Timings

DIGITS = 10  # significant ones: 0.1 ns of a second, where no clock and no repeat is as exact


def rounded(measured: Measured) -> Measured:
    """The same measurement, its metrics, predictions and timings with `DIGITS` significant digits."""
    result, times = measured.result, measured.result.timings
    timings = Timings(
        _round(times.wall_s),
        _round(times.startup_s),
        _round(times.load_s),
        None if times.weight_load_s is None else _round(times.weight_load_s),
        None if times.engine_warmup_s is None else _round(times.engine_warmup_s),
        None if times.answers_s is None else _round(times.answers_s),
    )
    if isinstance(result, Completed):
        points = tuple(_point(point) for point in result.points)
        return replace(measured, result=replace(result, timings=timings, points=points))
    return replace(measured, result=replace(result, timings=timings))


def _point(point: OperatingPoint) -> OperatingPoint:
    predicted = {name: _round(value) for name, value in point.predicted.items()}
    return replace(point, metrics=_values(point.metrics), predicted=predicted)


def _values(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else _round(value) for name, value in values.items()}


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else value
