"""Whole studies, drawn from what is uncertain about them before they run. Pure.

Common to all trials of a drawn study: how much faster or slower its engines serve and start than expected, the
share of trials that fail and of levels that pruning saves, which configurations an adaptive search prefers.
Of its own, each trial has a small deviation. A budget ends a drawn study as it would a real one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen import Workload
from serving.topology import Topology
from tuner.config.groups.search import Budget, ConfirmConfig
from tuner.study.planning.ladder import expected_loads, users_at
from tuner.study.planning.merit import Merit
from tuner.study.planning.speed import Speed
from tuner.trial.duration import levels_s

Floats = NDArray[np.float64]

DRAWS, DRAWS_MIN, DRAWN_TRIALS = 240, 40, 48_000  # trials of all drawn studies together
TRIALS_MAX = 1_000  # drawn of one study; more take as much longer
TRIAL_DEVIATION = 0.06  # of the logarithm of one trial's latency, and of its start
MODEL_DEVIATION = (
    0.2  # of the logarithm of all of a study's times: what `make bench-plan` leaves unexplained
)
OVERHEAD_DEVIATION = 0.3
LOAD_DEVIATION = 0.5  # of the logarithm of measured / expected load, before any study
BETWEEN_STUDIES = 0.15  # standard deviation of a factor between studies of one engine
FAILED_ODDS = (0.7, 14.0)  # beta distribution of the share of trials that fail
FAILED_LOAD = 0.3  # of a trial's load, until it fails
PRUNED_ODDS = (1.5, 2.5)  # of the share of later trials that are pruned
PRUNED_AFTER = 8  # trials
EVEN_SHARES = (0.0, 0.6)  # of an adaptive search's trials, that it does not choose by merit
CHOICE = (0.5, 8.0)  # how sharply it chooses: a power of the merit
MERIT_DEVIATION = 0.1  # of the logarithm of a merit
RACE_ODDS = (0.6, 1.2)  # of the rounds of a confirmation, from the fewest to the most
ABLATIONS = 1  # most that a tier's best usually takes, where it is not the default


@dataclass(frozen=True, slots=True)
class Factors:
    """What earlier studies showed of an engine: means of log(measured / expected), and how many studies.

    `load`: of all levels of the same workload, which then says more than latencies; None: not measured.
    `overhead_s`: of a trial, besides start and load; None: not known.
    """

    latency: float = 0.0
    start: float = 0.0
    studies: int = 0
    overhead_s: float | None = None
    load: float | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One configuration as far as its duration goes. `idle_s`: metering of idle boards. `engine`: its kind.
    `answers_s`: of the quality gate's prompts, which follow the load.
    """

    topology: Topology
    devices: int
    engine: str
    speed: Speed
    merit: Merit
    idle_s: float = 0.0
    answers_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a study will run. `known`: its first trials, in order; `others`: like which the rest are.

    `trials`: fewest and most. `adaptive`: the search prefers some of `others`. `workload` of the search,
    `measured` of repeats; `defaults`: how many of `known` are measured again in any case.
    """

    known: Sequence[Shape]
    others: Sequence[Shape]
    trials: tuple[int, int]
    adaptive: bool
    workload: Workload
    measured: Workload
    overhead_s: float
    pruned: bool
    confirm: ConfirmConfig
    defaults: int
    budget: Budget
    usd_per_device_hour: float | None
    factors: Mapping[str, Factors]
    fail: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A trial of a drawn study."""

    topology: Topology
    devices: int
    wall_s: float

    @property
    def device_s(self) -> float:
        """Device-seconds."""
        return self.devices * self.wall_s


Makespan = Callable[[Sequence[Job]], float]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Studies that were drawn: arrays by study. `ends`: what ended each search."""

    trials: Floats
    search_s: Floats
    search_device_s: Floats
    repeats: Floats
    confirm_s: Floats
    confirm_device_s: Floats
    ends: tuple[str, ...]
    first_start_s: Floats
    first_load_s: Floats


def draw(plan: StudyPlan, makespan: Makespan, seed: int = 0) -> Drawn:
    """Draws studies. `makespan`: seconds in which these trials are done, in their order."""
    count = max(DRAWS_MIN, min(DRAWS, DRAWN_TRIALS // min(plan.trials[1], TRIALS_MAX)))
    rng = np.random.default_rng(seed)
    times = StudyTimes(plan, count, rng)
    rows = [_Study(plan, times, each, rng).row(makespan) for each in range(count)]
    columns = np.array([row[:6] for row in rows], np.float64).T
    columns[[1, 2, 4, 5]] *= np.exp(MODEL_DEVIATION * rng.standard_normal(count))
    starts_s, loads_s = times.start_s[plan.known[0]], times.search_s[plan.known[0]].sum(axis=1)
    trials, search_s, search_device_s, repeats, confirm_s, confirm_device_s = columns
    return Drawn(
        trials, search_s, search_device_s, repeats, confirm_s, confirm_device_s,
        tuple(row[6] for row in rows), starts_s, loads_s,
    )  # fmt: skip


class StudyTimes:
    """Seconds of every configuration in each drawn study: `start_s`, `answers_s` (studies,), levels
    (studies, levels)."""

    def __init__(self, plan: StudyPlan, count: int, rng: np.random.Generator) -> None:
        self.overhead_s = plan.overhead_s * np.exp(OVERHEAD_DEVIATION * rng.standard_normal(count))
        self.start_s, self.answers_s = dict[Shape, Floats](), dict[Shape, Floats]()
        self.search_s, self.repeat_s = dict[Shape, Floats](), dict[Shape, Floats]()
        precise = rng.random((count, 1))
        common: dict[str, tuple[Floats, Floats]] = {}
        for shape in dict.fromkeys((*plan.known, *plan.others)):
            slower, later = common.setdefault(
                shape.engine, (rng.standard_normal((count, 1)), rng.standard_normal(count))
            )
            known, speed = plan.factors.get(shape.engine, Factors()), shape.speed
            mean, apart = posterior(known.start, known.studies, speed.start_deviation)
            self.start_s[shape] = speed.start_s * np.exp(mean + apart * later) + shape.idle_s
            mean, apart = posterior(known.latency, known.studies, speed.deviation)
            factor, rules = np.exp(mean + apart * slower), np.ones_like(slower)
            self.answers_s[shape] = shape.answers_s * factor[:, 0]
            if known.load is not None and not speed.fails:
                mean, apart = posterior(known.load, known.studies, LOAD_DEVIATION)
                factor, rules = np.ones_like(slower), np.exp(mean + apart * slower)
            for workload, found in ((plan.workload, self.search_s), (plan.measured, self.repeat_s)):
                users = users_at(workload, speed, expected_loads(workload, speed))
                levels = levels_s(workload, users, factor * speed.at(users), precise)
                found[shape] = rules * levels
                if speed.fails:
                    found[shape] = np.zeros_like(found[shape])


def posterior(mean: float, studies: int, deviation: float) -> tuple[float, float]:
    """Mean and deviation of the logarithm of a factor, of mean 0 beforehand, after so many `studies`."""
    if not studies or not deviation:
        return 0.0, deviation
    precision = studies / BETWEEN_STUDIES**2
    whole = precision + 1 / deviation**2
    return mean * precision / whole, float((1 / whole + BETWEEN_STUDIES**2) ** 0.5)


class _Study:
    """One drawn study."""

    def __init__(
        self, plan: StudyPlan, times: StudyTimes, draw: int, rng: np.random.Generator
    ) -> None:
        self._plan, self._times, self._draw, self._rng = plan, times, draw, rng
        fewest, most = plan.trials
        self._wanted = round(float(np.exp(rng.uniform(np.log(fewest), np.log(most)))))
        self._fails = rng.beta(*FAILED_ODDS) if plan.fail else 0.0
        self._pruned = rng.beta(*PRUNED_ODDS) if plan.pruned else 0.0

    def row(self, makespan: Makespan) -> tuple[float, float, float, float, float, float, str]:
        """The numeric columns of `Drawn`, and what ended the search."""
        drawn = min(self._wanted, TRIALS_MAX)
        shapes = self._chosen(drawn)
        jobs = [self._job(number, shape) for number, shape in enumerate(shapes)]
        kept, ended = affordable(self._plan, jobs, makespan)
        scale = self._wanted / drawn if kept == len(jobs) else 1.0
        jobs, repeats = jobs[:kept], self._repeats(shapes[:kept])
        search_s = sum(job.device_s for job in jobs) * scale
        confirm_s = sum(job.device_s for job in repeats)
        walls_s = [makespan(each) if each else 0.0 for each in (jobs, repeats)]
        trials = round(kept * scale)
        return trials, walls_s[0] * scale, search_s, len(repeats), walls_s[1], confirm_s, ended

    def _chosen(self, count: int) -> list[Shape]:
        """The configurations of the search: those known, then others; an adaptive one chooses by merit."""
        plan, rng = self._plan, self._rng
        others, rest = list(plan.others or plan.known), count - len(plan.known)
        if rest <= 0:
            return list(plan.known[:count])
        picked = rng.integers(0, len(others), rest)
        merits = np.array([_merit(each) for each in others])
        if plan.adaptive and merits.any():
            merits = (
                merits
                / merits.max()
                * np.exp(3 * MERIT_DEVIATION * rng.standard_normal(len(others)))
            )
            weights = merits ** rng.uniform(*CHOICE)
            liked = rng.choice(len(others), rest, p=weights / weights.sum())
            picked = np.where(rng.random(rest) < rng.uniform(*EVEN_SHARES), picked, liked)
        return [*plan.known, *(others[each] for each in picked)]

    def _job(self, number: int, shape: Shape) -> Job:
        rng, times, draw = self._rng, self._times, self._draw
        levels = times.search_s[shape][draw]
        load_s = float(levels.sum())
        if number >= PRUNED_AFTER and rng.random() < self._pruned:
            load_s = float(levels[: rng.integers(1, len(levels) + 1)].sum())
        if rng.random() < self._fails:
            load_s *= FAILED_LOAD * rng.random()
        apart = TRIAL_DEVIATION * rng.standard_normal(2)
        start_s = float(times.start_s[shape][draw]) * float(np.exp(apart[0]))
        wall_s = float(times.overhead_s[draw]) + start_s + load_s * float(1 + apart[1] / 2)
        wall_s += float(times.answers_s[shape][draw])
        return Job(shape.topology, shape.devices, wall_s)

    def _repeats(self, shapes: Sequence[Shape]) -> list[Job]:
        """The repeats of a confirmation, round by round: candidates by merit in each tier, and the defaults;
        then the ablations of each tier's best."""
        confirm, rng = self._plan.confirm, self._rng
        if not confirm.candidates:
            return []
        merits = np.array([shape.merit.in_tier for shape in shapes])
        merits = merits * np.exp(MERIT_DEVIATION * rng.standard_normal(merits.shape))
        races = [_race(column, confirm, self._plan.defaults) for column in merits.T]
        rounds = [self._rounds(len(race)) for race in races]
        jobs = list[Job]()
        for number in sorted({number for race in races for number in race}):
            shape, mine = shapes[number], [i for i, race in enumerate(races) if number in race]
            levels = self._times.repeat_s[shape][self._draw]
            if confirm.loads == "tier":
                places = {place for i in mine for place in shape.merit.places[i]}
                levels = levels[sorted(place for place in places if place < len(levels))]
            wall_s = self._times.overhead_s[self._draw] + self._times.start_s[shape][self._draw]
            job = Job(shape.topology, shape.devices, float(wall_s + levels.sum()))
            jobs += [job] * max(rounds[i] for i in mine)
            if number >= self._plan.defaults:
                best = sum(number == merits[:, i].argmax() for i in mine)
                jobs += [job] * int(rng.integers(0, ABLATIONS, endpoint=True, size=best).sum())
        return jobs

    def _rounds(self, candidates: int) -> int:
        least, most = self._plan.confirm.repeats_min, self._plan.confirm.repeats_max
        share = self._rng.beta(*RACE_ODDS) if candidates > 1 else 0.0
        return round(least + (most - least) * share)


def _merit(shape: Shape) -> float:
    inside = [each for each in shape.merit.in_tier if each]
    return shape.merit.rate * (0.3 + len(inside)) if shape.merit.rate else 0.0


def _race(merits: Floats, confirm: ConfirmConfig, defaults: int) -> set[int]:
    """The numbers of a tier's candidates, as `tuner.confirm.race.may_be_best` chooses, and of the defaults."""
    inside = np.flatnonzero(merits > 0)
    if not len(inside):
        return set()
    z = 2.0 + 0.25 * np.log(len(inside) + 1)
    near = inside[merits[inside] >= merits.max() * np.exp(-z * 2**0.5 * confirm.noise)]
    best = near[np.argsort(-merits[near], kind="stable")][: confirm.candidates]
    return {*(int(each) for each in best), *(int(each) for each in inside if each < defaults)}


def affordable(plan: StudyPlan, jobs: Sequence[Job], makespan: Makespan) -> tuple[int, str]:
    """How many trials start, and the limit that ends the search. See `tuner.study.learning.budget.exhausted`.

    A trial starts if the budget has room for what the ones before it took on average.
    """
    budget, price = plan.budget, plan.usd_per_device_hour
    if not budget.limited:
        return len(jobs), "trials"
    hours = np.cumsum([job.device_s for job in jobs]) / 3600
    limits = [("device_hours", budget.device_hours, hours)]
    if price is not None:
        limits.append(("usd", budget.usd, hours * price))
    if budget.wall_h is not None:
        limits.append(("wall_h", budget.wall_h, _walls_h(jobs, makespan)))
    kept, ended, done = len(jobs), "trials", np.arange(1, len(jobs) + 1)
    for name, limit, used in limits:
        if limit is not None:
            over = np.flatnonzero(used * (done + 1) / done > limit * (1 + 1e-9))
            if len(over) and over[0] + 1 < kept:
                kept, ended = int(over[0]) + 1, name
    return kept, ended


def _walls_h(jobs: Sequence[Job], makespan: Makespan) -> Floats:
    """Hours until so many trials are done: exact at some counts, between them in proportion."""
    at = np.unique(np.linspace(1, len(jobs), min(len(jobs), 12)).astype(int))
    known = [makespan(jobs[:count]) / 3600 for count in at]
    return np.interp(np.arange(1, len(jobs) + 1), at, np.maximum.accumulate(known))
