"""How long a trial is expected to take, part by part. Pure."""

import math

import numpy as np

from tuner.config.resolve import measured_workload
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.study.planning.draws import Shape
from tuner.study.planning.merit import merit_of
from tuner.study.planning.speed import Speed, mean_tokens, speed_of
from tuner.trial.duration import idle_metering_s


def shape_of(config: StudyConfig, trial: TrialConfig, busy: float, *, virtual: bool) -> Shape:
    """Of a trial. `busy`, `virtual`: as in `tuner.study.planning.estimate.estimate`."""
    speed = speed_of(trial, config.search.prior.system, virtual=virtual).slower(busy)
    idle_s = idle_metering_s(trial.power, trial.reserves.gpus if trial.twin is None else 0)
    tiers = {name: tier.limits() for name, tier in config.slo.tiers.items()}
    merit = merit_of(measured_workload(config), speed, trial.devices, tiers)
    answers_s = _answers_s(trial, speed)
    return Shape(trial.reserves, trial.devices, trial.engine.kind, speed, merit, idle_s, answers_s)


def _answers_s(trial: TrialConfig, speed: Speed) -> float:
    """Seconds of the quality gate's answers, each prompt twice: at most, as their prompts are short."""
    asked = trial.quality
    if asked is None or speed.fails:
        return 0.0
    token_s = float(speed.at(np.array([float(asked.concurrency)]))[0])
    token_s /= max(mean_tokens(trial.workload)[1], 1.0)
    return 2 * asked.tokens * token_s * math.ceil(asked.prompts / asked.concurrency)
