"""A machine that drifts, is disturbed, and whose starts differ, on which candidates of known value race."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.race import Race, after_round
from tuner.confirm.schedule import Schedule, is_outlier


@dataclass(frozen=True, slots=True)
class Machine:
    """Shares: `noise` between starts, `drift` of the machine's pace from end to end of a long study.

    The pace is a slow wave and a random walk of some 0.2 % a start on it. `bursts`: of all starts, the share at
    which another tenant comes, for one to four starts in a row, each of which fails, loses its valid levels or
    runs at 30 to 95 % of its pace. `fails`: of all starts, the share that fails by itself.
    """

    noise: float = 0.025
    drift: float = 0.04
    walk: float = 0.002
    bursts: float = 0.0
    fails: float = 0.0

    def paces(self, starts: int, random: np.random.Generator) -> np.ndarray:
        wave = self.drift / 2 * np.sin(np.arange(starts) / 15 + random.uniform(0, 2 * np.pi))
        return wave + np.cumsum(random.normal(0, self.walk, starts))

    def disturbances(self, starts: int, random: np.random.Generator) -> np.ndarray:
        """(starts,): logarithms of the pace's loss; NaN: no value."""
        found = np.zeros(starts)
        if not self.bursts and not self.fails:
            return found
        for begin in np.flatnonzero(random.random(starts) < self.bursts):
            kind, length = random.random(), int(random.integers(1, 5))
            loss = np.nan if kind < 0.5 else np.log(random.uniform(0.3, 0.95))
            found[begin : begin + length] = loss
        found[random.random(starts) < self.fails] = np.nan
        return found


@dataclass(frozen=True, slots=True)
class Raced:
    race: Race
    values: Mapping[str, Mapping[int, float | None]]
    starts: int
    pace: float  # of the machine meanwhile, by the mean; a logarithm
    failures: Mapping[str, Mapping[int, int]]
    order: tuple[str, ...]


def run_race(
    truth: Mapping[str, float],
    config: ConfirmConfig,
    random: np.random.Generator,
    machine: Machine | None = None,
    *,
    always: frozenset[str] = frozenset(),
    noises: Mapping[str, float] | None = None,
    broken: Mapping[str, float] | None = None,
    fixed: bool = False,
) -> Raced:
    """`always`: measured in every round. `fixed`: all of them in all rounds, for comparison.

    `broken`: candidate → the share of its starts that fail by its own fault.
    """
    machine, noises, broken = machine or Machine(), noises or {}, broken or {}
    most = 2 * len(truth) * config.repeats_max
    paces, lost = machine.paces(most, random), machine.disturbances(most, random)
    values: dict[str, dict[int, float | None]] = {name: {} for name in truth}
    failures: dict[str, dict[int, int]] = {name: {} for name in truth}
    tries: dict[str, list[float]] = {name: [] for name in truth}
    race, order, whole = Race(frozenset(truth)), list[str](), 0

    def members() -> list[str]:
        over = race.ended and not fixed
        return [] if over else sorted(truth if fixed else {*race.remaining, *always})

    schedule = Schedule(int(random.integers(1 << 31)), config.repeats_max, members)
    while members() and (due := schedule.next()) is not None:
        name, number = due
        schedule.asked(name, number)
        pace = paces[len(order)] + lost[len(order)]
        order.append(name)
        value = truth[name] * float(
            np.exp(random.normal(0, noises.get(name, machine.noise)) + pace)
        )
        good = bool(np.isfinite(value)) and random.random() >= broken.get(name, 0.0)
        if good:
            values[name][number] = value
        else:
            failures[name][number] = failures[name].get(number, 0) + 1
        sure = good and not is_outlier(value, tries[name], config.noise)
        tries[name] += [value] * good
        if schedule.finished(name, number, good=sure):
            values[name].setdefault(number, None)
        for _ in range(whole, schedule.whole):
            last = race.rounds + 1 == config.repeats_max
            before = Race(race.names, race.rounds) if fixed else race
            after = after_round(before, values, config, failures)
            race = Race(race.names, race.rounds + 1) if fixed and not last else after
        whole = schedule.whole
    mean = float(paces[: len(order)].mean()) if order else 0.0
    return Raced(race, values, len(order), mean, failures, tuple(order))
