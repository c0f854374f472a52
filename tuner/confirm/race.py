"""A race: which candidate is best, from repeats in rounds that stop once there is nothing left to decide. Pure.

A repeat is one fresh start of a candidate; a round holds one of each that is still in the race, in random
order. Differences are taken within rounds, so a drift of the machine from round to round cancels: the
intrablock analysis of an incomplete block design (Cochran and Cox, Experimental Designs, chapter 9), on
logarithms. Every interval is a repeated confidence interval (Jennison and Turnbull, JRSS B 51, 1989): all of
them hold together whenever the race stops. A candidate is out when another is significantly ahead of it.
Of m candidates each of the m (m - 1) ordered pairs is tested at α / 2 (m - 1): so of several equal ones a best
is named in at most α of all races, and the true best is eliminated in at most α / 2.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.group_sequential import nominal_levels

FUTILITY = 0.05  # predictive power below which a race stops
NOISE_SIGNIFICANCE = 0.3  # at which a pair counts as noisier than the others
FAILURE_DOUBT = 0.1  # p-value of its failures below which a candidate is not ahead of any other
MIN_ERROR = 1e-9  # a smaller standard error is rounding

# Candidate → round → its value; None: the repeat gave none, nor did its second try.
Values = Mapping[str, Mapping[int, float | None]]
Failures = Mapping[str, Mapping[int, int]]  # candidate → round → tries without a value
Ended = Literal["", "best", "equal", "futile", "budget"]
Floats = NDArray[np.float64]


def may_be_best(scores: Mapping[int, float], confirm: ConfirmConfig) -> list[int]:
    """The numbers whose single score is not significantly below the best one, best first.

    At most `confirm.candidates`. The best of N scores is biased upwards, so each is tested against it at α /
    2N.
    """
    from scipy.special import ndtri

    if not scores or not confirm.candidates:
        return []
    level = (1 - confirm.confidence) / 2 / len(scores)
    reach = -float(ndtri(level)) * math.sqrt(2) * confirm.noise
    top = max(scores.values())
    near = [n for n, score in scores.items() if math.log(top / score) <= reach]
    return sorted(near, key=lambda n: (-scores[n], n))[: confirm.candidates]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the logarithms of two candidates' values, within rounds."""

    log_ratio: float
    error: float  # standard error
    freedom: float  # degrees of

    @property
    def above(self) -> float:
        """The probability that the true difference is positive, under a flat prior."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, self.log_ratio / max(self.error, MIN_ERROR)))

    def bounds(self, level: float) -> tuple[float, float]:
        """Two one-sided limits, each at `level`."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.freedom, 1 - level)) * max(self.error, MIN_ERROR)
        return self.log_ratio - reach, self.log_ratio + reach


@dataclass(frozen=True, slots=True, eq=False)
class EffectsFit:
    """Effects of candidates and of rounds, by least squares. `effects`: (candidates,), logarithms of mean 0."""

    names: tuple[str, ...]
    effects: Floats
    covariance: Floats  # (candidates, candidates), in units of `variance`
    variance: float  # of one repeat within its round
    freedom: int
    logs: Mapping[str, Mapping[int, float]]

    def difference(self, one: str, other: str) -> Difference:
        """`one` over `other`. A pair that is noisier than the rest is judged by its own variance."""
        own = self._own_variance(one, other)
        if own is not None:
            apart = self._within_rounds(one, other)
            mean = math.fsum(apart) / len(apart)
            return Difference(mean, math.sqrt(own / len(apart)), len(apart) - 1)
        i, j, c = self.names.index(one), self.names.index(other), self.covariance
        units = max(0.0, float(c[i, i] + c[j, j] - 2 * c[i, j]))
        log_ratio = float(self.effects[i] - self.effects[j])
        return Difference(log_ratio, math.sqrt(self.variance * units), self.freedom)

    def _within_rounds(self, one: str, other: str) -> list[float]:
        ours, theirs = self.logs[one], self.logs[other]
        return [ours[r] - theirs[r] for r in sorted(ours.keys() & theirs.keys())]

    def _own_variance(self, one: str, other: str) -> float | None:
        """Of the differences of a pair within rounds, where it is significantly above that of the fit."""
        from scipy.special import fdtrc

        apart = self._within_rounds(one, other)
        if len(self.names) < 3 or len(apart) < 2:
            return None
        mean, usual = math.fsum(apart) / len(apart), 2 * self.variance
        own = math.fsum((each - mean) ** 2 for each in apart) / (len(apart) - 1)
        p_value = fdtrc(len(apart) - 1, self.freedom, own / usual) if own > usual > 0 else 1.0
        return own if p_value < NOISE_SIGNIFICANCE else None


def fit(values: Values, names: Collection[str], until: int) -> EffectsFit | None:
    """Of the first `until` rounds. None while there are too few repeats to estimate noise and differences."""
    logs = {
        name: {r: math.log(v) for r, v in values.get(name, {}).items() if r < until and v}
        for name in names
    }
    known = tuple(sorted(name for name in names if logs[name]))
    rounds = sorted({r for name in known for r in logs[name]})
    table = np.array([[logs[name].get(r, math.nan) for name in known] for r in rounds])
    if not table.size:
        return None
    there = ~np.isnan(table)
    per_round = there.sum(axis=1, keepdims=True)
    centred = np.where(there, table - np.nanmean(table, axis=1, keepdims=True), 0.0)
    shares = there / per_round
    information = np.diag(there.sum(axis=0)) - there.T.astype(float) @ shares
    freedom = int(there.sum()) - len(rounds) - (len(known) - 1)
    sizes, vectors = np.linalg.eigh(information)
    linked = sizes > 1e-9 * len(rounds)  # all but one, where rounds link all candidates
    if freedom < 1 or linked.sum() < len(known) - 1:
        return None
    covariance = (vectors[:, linked] / sizes[linked]) @ vectors[:, linked].T
    effects = covariance @ centred.sum(axis=0)
    fitted = effects - (shares @ effects)[:, None]
    residual = np.where(there, centred - fitted, 0.0)
    variance = float((residual**2).sum()) / freedom
    return EffectsFit(known, effects, covariance, variance, freedom, logs)


@dataclass(frozen=True, slots=True)
class Race:
    """The state of a race after `rounds` whole rounds.

    `out`: candidate → the round after which it was eliminated. `failed`: those that are out because their
    repeats gave no value more often than chance explains, not because another was ahead. `ended`: why the race
    has ended; empty while it goes on.
    """

    names: frozenset[str]
    rounds: int = 0
    out: Mapping[str, int] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    ended: Ended = ""

    @property
    def remaining(self) -> tuple[str, ...]:
        """The candidates that are not out."""
        return tuple(sorted(self.names - self.out.keys()))


def level_of(race: Race, config: ConfirmConfig, rounds: int | None = None) -> float:
    """The one-sided level of a comparison after so many rounds; None: after those that the race has."""
    pairs = max(1, len(race.names) - 1)
    levels = nominal_levels(
        config.repeats_min, config.repeats_max, (1 - config.confidence) / 2 / pairs
    )
    done = race.rounds if rounds is None else rounds
    return levels[min(max(done - config.repeats_min, 0), len(levels) - 1)]


def after_round(
    race: Race, values: Values, config: ConfirmConfig, failures: Failures | None = None
) -> Race:
    """The race after one more whole round. A race that has ended stays as it is."""
    if race.ended:
        return race
    rounds = race.rounds + 1
    p_values = _failure_p_values(race, values, failures or {}, rounds)
    level = (1 - config.confidence) / 2 / max(1, len(race.names) - 1)
    settled = rounds >= config.repeats_min
    failing = {name for name, p_value in p_values.items() if settled and p_value < level}
    race = replace(
        race,
        rounds=rounds,
        out={**race.out, **dict.fromkeys(failing, rounds)},
        failed=race.failed | failing,
    )
    found = fit(values, race.names, rounds) if rounds >= config.repeats_min else None
    if found is None:
        return replace(race, ended=_spent(race, config))
    level = level_of(race, config)
    sound = [name for name in race.remaining if p_values[name] >= FAILURE_DOUBT]
    behind = {n for n in race.remaining if _is_behind(found, n, sound, level)}
    race = replace(race, out={**race.out, **dict.fromkeys(behind, rounds)})
    return replace(race, ended=_end(race, found, level, config))


def _end(race: Race, found: EffectsFit, level: float, config: ConfirmConfig) -> Ended:
    first, others = leader(found, race.remaining), len(race.remaining) - 1
    if not others:
        return "best"
    pairs = [
        found.difference(first, other)
        for other in race.remaining
        if first is not None and other != first and other in found.names
    ]
    if len(pairs) == others:
        if all(p.bounds(level)[1] <= math.log1p(config.equivalence) for p in pairs):
            return "equal"
        last = level_of(race, config, config.repeats_max)
        share = race.rounds / config.repeats_max
        if share < 1 and all(predictive_power(pair, last, share) < FUTILITY for pair in pairs):
            return "futile"
    return _spent(race, config)


def _spent(race: Race, config: ConfirmConfig) -> Ended:
    if len(race.remaining) < 2 and race.rounds >= config.repeats_min:
        return "best"
    return "budget" if race.rounds >= config.repeats_max else ""


def predictive_power(pair: Difference, level: float, share: float) -> float:
    """The probability that the last round shows a difference, given the `share` of repeats so far.

    By Spiegelhalter, Freedman and Blackburn (Controlled Clinical Trials 7, 1986). Stopping where it is small
    adds no false alarms.
    """
    from scipy.special import ndtr, ndtri

    error = max(pair.error, MIN_ERROR)
    needed = -ndtri(level) * math.sqrt(share) * error  # the boundary at the end
    return float(ndtr((pair.log_ratio - needed) / (error * math.sqrt(1 - share))))


def starts(values: Values, failures: Failures, name: str, until: int) -> tuple[int, int]:
    """Of the first `until` rounds: (starts without a value in rounds that gave none, starts with a value).

    A start whose second try gave a value is neither: the machine may have been disturbed.
    """
    own = {r: value for r, value in values.get(name, {}).items() if r < until}
    tries = failures.get(name, {})
    failed = sum(max(tries.get(r, 0), 1) for r, value in own.items() if not value)
    return failed, sum(bool(value) for value in own.values())


def failure_p_value(failed: int, good: int, rivals_failed: int, rivals_good: int) -> float:
    """Fisher's exact test: the probability of so many failures or more if all candidates fail alike."""
    from scipy.stats import hypergeom

    if not failed:
        return 1.0
    every = failed + good + rivals_failed + rivals_good
    return float(hypergeom.sf(failed - 1, every, failed + rivals_failed, failed + good))


def _failure_p_values(
    race: Race, values: Values, failures: Failures, rounds: int
) -> dict[str, float]:
    """Of the failures of each candidate that is not out, against all the others together."""
    counts = {name: starts(values, failures, name, rounds) for name in race.names}
    failed, good = (sum(count[i] for count in counts.values()) for i in (0, 1))
    return {
        name: failure_p_value(*counts[name], failed - counts[name][0], good - counts[name][1])
        for name in race.remaining
    }


def leader(found: EffectsFit, names: Iterable[str]) -> str | None:
    """The one of these with the highest effect; None where none has a value."""
    known = [name for name in names if name in found.names]
    return max(known, key=lambda name: (found.effects[found.names.index(name)], name), default=None)


def _is_behind(found: EffectsFit, name: str, rivals: Iterable[str], level: float) -> bool:
    return name in found.names and any(
        found.difference(rival, name).bounds(level)[0] > 0
        for rival in rivals
        if rival != name and rival in found.names
    )
