"""Keeps what was predicted of a trial, by the search's prior or the twin, beside what it measured."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from tuner.config.groups.space import Point
from tuner.config.study import StudyConfig
from tuner.search.curve.prior import Prior
from tuner.search.priors.factory import ModelPrior, by_twin
from tuner.trial.result import Completed, Measured

METRICS = (
    "throughput_output_tok_s_device",
    "interactivity_tok_s_user",
    "ttft_p50_ms",
    "tpot_p50_ms",
    "energy_j_per_output_tok",
)


class PredictionRecorder:
    """Adds predictions to results, at each load level that was measured.

    `prior`: that of the search; without one a study on a twin is predicted by the twin, any other by nothing.
    """

    def __init__(self, config: StudyConfig, prior: Prior | None) -> None:
        if prior is None and config.hardware.twin is not None:
            prior = ModelPrior(config, by_twin)
        self._prior = prior

    def recorded(self, point: Point, measured: Measured) -> Measured:
        """The same measurement, with `predicted` in its operating points."""
        result = measured.result
        if self._prior is None or not isinstance(result, Completed):
            return measured
        loads = [each.load_value for each in result.points]
        steady = sorted({load for load in loads if load})
        if not steady:
            return measured
        predicted = self._predicted(self._prior, point, steady, result.config.devices)
        points = [
            replace(each, predicted=predicted.get(load or 0.0, {}))
            for each, load in zip(result.points, loads, strict=True)
        ]
        return replace(measured, result=replace(result, points=tuple(points)))

    def _predicted(
        self, prior: Prior, point: Point, loads: Sequence[float], devices: int
    ) -> dict[float, dict[str, float]]:
        """Load → metric → value. Each metric is asked for alone: an older study may lack some of them."""
        at, found = np.log2(np.array(loads) / devices), {load: dict[str, float]() for load in loads}
        for metric in METRICS:
            values = np.exp(prior.curves([point], at, [metric])[0, :, 0])
            for load, value in zip(loads, values.tolist(), strict=True):
                if isfinite(value):
                    found[load][metric] = value
        return found
