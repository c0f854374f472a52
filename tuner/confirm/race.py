"""Which contender is best, from repeats in rounds that stop where nothing is left to decide. Pure.

A repeat is one fresh start of a contender; a round holds one of each that is still in the race, in random
order. Differences are taken within rounds, so a drift of the machine from round to round cancels: the
intrablock analysis of an incomplete block design (Cochran and Cox, Experimental Designs, chapter 9), on
logarithms. Every interval is a repeated confidence interval (Jennison and Turnbull, JRSS B 51, 1989): all of
them hold together whenever the race stops. A contender is out when another is significantly ahead of it.
Of m contenders each of the m (m - 1) ordered pairs is tested at α / 2 (m - 1): so a best is named where
several are equal in at most α of all races, and the true best is ever out in at most α / 2.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.group_sequential import nominal_levels

FAILURES_MAX = 1  # one bad start may be chance; after a second one a contender is out
HOPELESS = 0.05  # chance below which more repeats are not worth it
NOISIER = 0.1  # significance at which a contender counts as noisier than the others
TINY = 1e-9  # a standard error below it is rounding

# Contender → round → its value; None: it had none.
Values = Mapping[str, Mapping[int, float | None]]
Ended = Literal["", "best", "equal", "hopeless", "budget"]
Floats = NDArray[np.float64]


def may_be_best(scores: Mapping[int, float], confirm: ConfirmConfig) -> list[int]:
    """Best first: those whose single score is not significantly below the best one, at most so many.

    The best of many scores is high by luck, so each is held against it at α / 2N.
    """
    from scipy.special import ndtri

    if not scores or not confirm.contenders:
        return []
    level = (1 - confirm.confidence) / 2 / len(scores)
    reach = -float(ndtri(level)) * math.sqrt(2) * confirm.noise
    top = max(scores.values())
    near = [n for n, score in scores.items() if math.log(top / score) <= reach]
    return sorted(near, key=lambda n: (-scores[n], n))[: confirm.contenders]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the logarithms of two contenders' values, within rounds."""

    log_ratio: float
    error: float  # standard error
    freedom: float  # degrees of

    def bounds(self, level: float) -> tuple[float, float]:
        """Each is passed by chance with probability `level`."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.freedom, 1 - level)) * max(self.error, TINY)
        return self.log_ratio - reach, self.log_ratio + reach


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Effects of contenders and of rounds, by least squares. `effects` are logarithms, of mean 0."""

    names: tuple[str, ...]
    effects: Floats
    covariance: Floats  # in units of `variance`
    variance: float  # of one repeat within its round
    freedom: int
    logs: Mapping[str, Mapping[int, float]]

    def difference(self, one: str, other: str) -> Difference:
        """`one` over `other`. A pair that is visibly noisier than the rest is judged by itself alone."""
        from scipy.special import fdtrc

        i, j = self.names.index(one), self.names.index(other)
        ours, theirs = self.logs[one], self.logs[other]
        apart = [ours[r] - theirs[r] for r in sorted(ours.keys() & theirs.keys())]
        if len(self.names) > 2 and len(apart) > 1:
            mean = math.fsum(apart) / len(apart)
            own = math.fsum((each - mean) ** 2 for each in apart) / (len(apart) - 1)
            usual = 2 * self.variance
            if own > usual > 0 and fdtrc(len(apart) - 1, self.freedom, own / usual) < NOISIER:
                return Difference(mean, math.sqrt(own / len(apart)), len(apart) - 1)
        c = self.covariance
        units = max(0.0, float(c[i, i] + c[j, j] - 2 * c[i, j]))
        log_ratio = float(self.effects[i] - self.effects[j])
        return Difference(log_ratio, math.sqrt(self.variance * units), self.freedom)


def fit(values: Values, names: Collection[str], until: int) -> Fit | None:
    """Of the first `until` rounds. None while they can't tell noise from differences."""
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
    linked = sizes > 1e-9 * len(rounds)  # all but one, where rounds link all contenders
    if freedom < 1 or linked.sum() < len(known) - 1:
        return None
    covariance = (vectors[:, linked] / sizes[linked]) @ vectors[:, linked].T
    effects = covariance @ centred.sum(axis=0)
    fitted = effects - (shares @ effects)[:, None]
    residual = np.where(there, centred - fitted, 0.0)
    variance = float((residual**2).sum()) / freedom
    return Fit(known, effects, covariance, variance, freedom, logs)


@dataclass(frozen=True, slots=True)
class Race:
    """How a race stands after `rounds` whole rounds. `out`: contender → the round that showed it.

    `failed`: those that are out because they gave no value, not because another was ahead.
    """

    names: frozenset[str]
    rounds: int = 0
    out: Mapping[str, int] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    ended: Ended = ""

    @property
    def still(self) -> tuple[str, ...]:
        return tuple(sorted(self.names - self.out.keys()))


def level_of(race: Race, config: ConfirmConfig, rounds: int | None = None) -> float:
    """The one-sided level of a comparison after so many rounds."""
    pairs = max(1, len(race.names) - 1)
    levels = nominal_levels(
        config.repeats_min, config.repeats_max, (1 - config.confidence) / 2 / pairs
    )
    done = race.rounds if rounds is None else rounds
    return levels[min(max(done - config.repeats_min, 0), len(levels) - 1)]


def after_round(race: Race, values: Values, config: ConfirmConfig) -> Race:
    """The race after one more round, which is whole. One that has ended stays as it is."""
    if race.ended:
        return race
    rounds = race.rounds + 1
    failing = {n for n in race.still if failures(values.get(n, {}), rounds) > FAILURES_MAX}
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
    behind = {n for n in race.still if _is_behind(found, n, race.still, level)}
    race = replace(race, out={**race.out, **dict.fromkeys(behind, rounds)})
    return replace(race, ended=_end(race, found, level, config))


def _end(race: Race, found: Fit, level: float, config: ConfirmConfig) -> Ended:
    first, others = leader(found, race.still), len(race.still) - 1
    if not others:
        return "best"
    pairs = [
        found.difference(first, other)
        for other in race.still
        if first is not None and other != first and other in found.names
    ]
    if len(pairs) == others:
        if all(p.bounds(level)[1] <= math.log1p(config.equivalence) for p in pairs):
            return "equal"
        last = level_of(race, config, config.repeats_max)
        share = race.rounds / config.repeats_max
        if share < 1 and all(hope(pair, last, share) < HOPELESS for pair in pairs):
            return "hopeless"
    return _spent(race, config)


def _spent(race: Race, config: ConfirmConfig) -> Ended:
    if len(race.still) < 2 and race.rounds >= config.repeats_min:
        return "best"
    return "budget" if race.rounds >= config.repeats_max else ""


def hope(pair: Difference, level: float, share: float) -> float:
    """The chance that a pair is told apart by the end, of whose repeats there is this `share`.

    The predictive power of Spiegelhalter, Freedman and Blackburn (Controlled Clinical Trials 7, 1986).
    To stop where it is small gives no more false alarms, only fewer.
    """
    from scipy.special import ndtr, ndtri

    error = max(pair.error, TINY)
    needed = -ndtri(level) * math.sqrt(share) * error  # the boundary at the end
    return float(ndtr((pair.log_ratio - needed) / (error * math.sqrt(1 - share))))


def failures(repeats: Mapping[int, float | None], until: int) -> int:
    """How many of the first rounds gave a contender no value."""
    return sum(not value for r, value in repeats.items() if r < until)


def leader(found: Fit, names: Iterable[str]) -> str | None:
    known = [name for name in names if name in found.names]
    return max(known, key=lambda name: (found.effects[found.names.index(name)], name), default=None)


def _is_behind(found: Fit, name: str, rivals: Iterable[str], level: float) -> bool:
    return name in found.names and any(
        found.difference(rival, name).bounds(level)[0] > 0
        for rival in rivals
        if rival != name and rival in found.names
    )
