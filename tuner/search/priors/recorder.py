"""What was foretold of a trial, by the search's prior or the hardware's twin: kept with what it measured."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from tuner.config.groups.space import Point
from tuner.config.study import StudyConfig
from tuner.search.curve.prior import Prior
from tuner.search.factory import meanings_of
from tuner.search.priors.factory import Foretold, by_twin, prior_of
from tuner.trial.result import Completed, Measured

METRICS = (
    "throughput_output_tok_s_device",
    "interactivity_tok_s_user",
    "ttft_p50_ms",
    "tpot_p50_ms",
    "energy_j_per_output_tok",
)


class Foreteller:
    """A prediction for each level that a trial was measured at; none where its prior has none."""

    def __init__(self, prior: Prior | None) -> None:
        self._prior = prior

    def beside(self, point: Point, measured: Measured) -> Measured:
        """The same, with `predicted` in its operating points."""
        result = measured.result
        if self._prior is None or not isinstance(result, Completed):
            return measured
        loads = [each.load_value for each in result.points]
        steady = sorted({load for load in loads if load})
        if not steady:
            return measured
        told = self._told(self._prior, point, steady, result.config.devices)
        points = [
            replace(each, predicted=told.get(load or 0.0, {}))
            for each, load in zip(result.points, loads, strict=True)
        ]
        return replace(measured, result=replace(result, points=tuple(points)))

    def _told(
        self, prior: Prior, point: Point, loads: Sequence[float], devices: int
    ) -> dict[float, dict[str, float]]:
        """By load. Metric by metric: an older study may know some of them alone."""
        at, told = np.log2(np.array(loads) / devices), {load: dict[str, float]() for load in loads}
        for metric in METRICS:
            values = np.exp(prior.curves([point], at, [metric])[0, :, 0])
            for load, value in zip(loads, values.tolist(), strict=True):
                if isfinite(value):
                    told[load][metric] = value
        return told


def foreteller(config: StudyConfig) -> Foreteller:
    """Raises ConfigError for a prior that can't be had."""
    if config.search.prior.kind != "none":
        return Foreteller(prior_of(config, meanings_of(config)))
    on_twin = config.hardware.twin is not None
    return Foreteller(Foretold(config, by_twin) if on_twin else None)
