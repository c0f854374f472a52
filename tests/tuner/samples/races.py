"""A machine that drifts and whose starts differ, on which candidates of known value race."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.race import Race, after_round


@dataclass(frozen=True, slots=True)
class Machine:
    """Shares: `noise` between starts, `drift` of the machine's pace from end to end of a long study.

    The pace is a slow wave and a random walk of some 0.2 % a start on it.
    """

    noise: float = 0.025
    drift: float = 0.04
    walk: float = 0.002

    def paces(self, starts: int, random: np.random.Generator) -> np.ndarray:
        wave = self.drift / 2 * np.sin(np.arange(starts) / 15 + random.uniform(0, 2 * np.pi))
        return wave + np.cumsum(random.normal(0, self.walk, starts))


@dataclass(frozen=True, slots=True)
class Raced:
    race: Race
    values: Mapping[str, Mapping[int, float | None]]
    starts: int
    pace: float  # of the machine meanwhile, by the mean; a logarithm


def run_race(
    truth: Mapping[str, float],
    config: ConfirmConfig,
    random: np.random.Generator,
    machine: Machine | None = None,
    *,
    always: frozenset[str] = frozenset(),
    noises: Mapping[str, float] | None = None,
    fixed: bool = False,
) -> Raced:
    """`always`: measured in every round. `fixed`: all of them in all rounds, for comparison."""
    machine, noises = machine or Machine(), noises or {}
    paces = machine.paces(len(truth) * config.repeats_max, random)
    values: dict[str, dict[int, float | None]] = {name: {} for name in truth}
    race, starts = Race(frozenset(truth)), 0
    while race.rounds < config.repeats_max and (fixed or not race.ended):
        taking = sorted(truth if fixed else {*race.remaining, *always})
        for place in random.permutation(len(taking)):
            name = taking[place]
            noise = random.normal(0, noises.get(name, machine.noise))
            values[name][race.rounds] = truth[name] * float(np.exp(noise + paces[starts]))
            starts += 1
        after = after_round(Race(race.names, race.rounds) if fixed else race, values, config)
        race = Race(race.names, race.rounds + 1) if fixed and race.ended else after
    return Raced(race, values, starts, float(paces[:starts].mean()))
