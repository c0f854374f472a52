"""The result of a race: means, intervals, P(best), and a verdict that claims no more than they show. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.race import (
    Difference,
    EffectsFit,
    Failures,
    Race,
    Values,
    fit,
    leader,
    level_of,
    starts,
)

DRAWS = 20_000  # from the posterior: a probability is good to 0.4 %
INFORMATIVE = 0.5  # the highest least detectable difference that is stated
POWER = 0.8  # of the test at the least detectable difference


@dataclass(frozen=True, slots=True)
class Ratio:
    """A difference as a share, 0.05 for 5 % more, and its simultaneous interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:+.1%} ({self.low:+.1%} to {self.high:+.1%})"


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate, measured again. None: too few repeats.

    `mean`: geometric, with a t interval from `low` to `high` over its repeats. `p_best`: the probability that
    its true value is the highest, None of one that failed. `repeats`: starts, of which `failed` gave no value.
    `searched`: what the search measured. `out_after`: rounds.
    """

    name: str
    repeats: int
    failed: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p_best: float | None = None
    over_default: Ratio | None = None
    searched: float | None = None
    out_after: int | None = None

    @property
    def selection_bias(self) -> float | None:
        """The share by which the search's value was above the mean; None for a loss."""
        if self.mean is None or self.searched is None or self.mean <= 0:
            return None
        return self.searched / self.mean - 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """`names`: the best, or those between which no difference was shown. `chosen`: whose mean is published."""

    kind: Literal["best", "equal", "undecided", "none"]
    names: tuple[str, ...]
    chosen: str | None
    text: str


def standings(
    race: Race,
    values: Values,
    config: ConfirmConfig,
    searched: Mapping[str, float],
    defaults: Mapping[str, str],
    failures: Failures | None = None,
) -> list[Standing]:
    """Best first.

    `searched`: candidate → what the search measured; `defaults`: candidate → the default of its engine.
    `failures`: candidate → round → starts that gave no value; None: one wherever there is none.
    """
    found = fit(values, race.names, race.rounds)
    p_best = best_probabilities(found, race, config.seed) if found else {}
    level = level_of(race, config)

    def standing(name: str) -> Standing:
        repeats = values.get(name, {})
        logs = [math.log(v) for r, v in sorted(repeats.items()) if r < race.rounds and v]
        mean, low, high = _mean(logs, config.confidence)
        default = defaults.get(name)
        over = None
        if found and default not in (None, name) and {name, default} <= set(found.names):
            over = _ratio(found.difference(name, str(default)), level)
        failed = _failed(repeats, (failures or {}).get(name, {}), race.rounds)
        return Standing(
            name,
            len(logs) + failed,
            failed,
            mean,
            low,
            high,
            p_best.get(name),
            over,
            searched.get(name),
            race.out.get(name),
        )

    return sorted(map(standing, race.names), key=lambda each: (-(each.mean or 0.0), each.name))


def best_probabilities(found: EffectsFit, race: Race, seed: int) -> dict[str, float]:
    """Candidate → the probability that its true value is the highest.

    From the posterior of the effects under a flat prior, a multivariate t. Candidates that failed are left out.
    """
    order = sorted(range(len(found.names)), key=lambda i: (found.effects[i], found.names[i]))
    order = [i for i in order if found.names[i] not in race.failed]
    if not order:
        return {}
    random = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(found.covariance[np.ix_(order, order)])
    # Symmetric, so that it is the same whatever signs the vectors have.
    root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
    scale = np.sqrt(found.variance * found.freedom / random.chisquare(found.freedom, DRAWS))
    spread = random.standard_normal((DRAWS, len(order))) @ root * scale[:, None]
    drawn = found.effects[order] + spread
    first = drawn >= drawn.max(axis=1, keepdims=True) - 1e-12
    shares = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    named = {found.names[i]: float(share) for i, share in zip(order, shares, strict=True)}
    return _no_surer_than_pairs(found, named)


def _no_surer_than_pairs(found: EffectsFit, p_best: dict[str, float]) -> dict[str, float]:
    """The best is above each other one, so P(best) is at most each P(above); what is too much is that other's.

    The posterior of all has one variance; a pair that is noisier is judged by its own.
    """
    for name in sorted(p_best, key=lambda n: (-p_best[n], n)):
        above = {other: found.difference(name, other).above for other in p_best if other != name}
        if not above:
            continue
        rival = min(above, key=lambda n: (above[n], n))
        excess = max(0.0, p_best[name] - above[rival])
        p_best = {**p_best, name: p_best[name] - excess, rival: p_best[rival] + excess}
    return p_best


def verdict(
    race: Race,
    values: Values,
    config: ConfirmConfig,
    defaults: Sequence[str] = (),
    failures: Failures | None = None,
) -> Verdict:
    """What the race shows. `defaults`: candidates that are an engine's default, preferred among equal ones.

    `failures`: as `standings` takes them.
    """
    found = fit(values, race.names, race.rounds)
    judged = _judged(found, race, values, config, defaults)
    out = "".join(f"; {each}" for each in _failures(race, values, failures or {}))
    return replace(judged, text=judged.text + out)


def _judged(
    found: EffectsFit | None,
    race: Race,
    values: Values,
    config: ConfirmConfig,
    defaults: Sequence[str],
) -> Verdict:
    remaining = [name for name in race.remaining if _has_value(values, name, race)]
    without = sorted(set(race.remaining) - set(remaining))
    if not remaining:
        text = "no candidate met the SLO in its repeats" if race.rounds else "not repeated yet"
        return Verdict("none", (), None, text)
    rounds = _after(race)
    if found is not None:
        first = leader(found, remaining)
        remaining = sorted(remaining, key=lambda n: (n != first, -_effect(found, n), n))
    names = tuple(remaining)
    if not race.ended or without or (found is None and len(names) > 1):
        text = _open_text(race, names, without)
        return Verdict("undecided", (*names, *without), None, f"{text} {rounds}")
    if found is None:
        return Verdict("best", names, names[0], f"{names[0]} is the only one with a value")
    if len(names) == 1:
        return Verdict("best", names, names[0], _best_text(found, race, config, names[0], rounds))
    return _tied(found, race, config, names, defaults)


def _open_text(race: Race, names: Sequence[str], without: Sequence[str]) -> str:
    if not race.ended:
        return f"undecided between {_listed([*names, *without])}"
    if without:
        return f"inconclusive: {_listed(without)} gave no value, which chance may explain,"
    return f"inconclusive between {_listed(names)}: too few of their repeats gave a value"


def _tied(
    found: EffectsFit,
    race: Race,
    config: ConfirmConfig,
    names: tuple[str, ...],
    defaults: Sequence[str],
) -> Verdict:
    rounds = _after(race)
    pairs = [found.difference(names[0], other) for other in names[1:]]
    if race.ended == "equal":
        kept = next((name for name in names if name in defaults), names[0])
        text = (
            f"no difference between {_listed(names)}: {rounds} within "
            f"{config.equivalence:.1%} of the highest"
        )
        return Verdict("equal", names, kept, text)
    level = level_of(race, config)
    least = max(detectable(pair, level) for pair in pairs)
    text = f"no difference shown between {_listed(names)} {rounds}: "
    text += (
        f"the least detectable difference is {least:.1%}"
        if least < INFORMATIVE
        else "their repeats vary too much for any conclusion"
    )
    text += ", and more rounds would hardly separate them" if race.ended == "futile" else ""
    return Verdict("equal", names, names[0], text)


def detectable(pair: Difference, level: float) -> float:
    """The true difference, as a share, that a test at this one-sided level finds with probability `POWER`."""
    from scipy.special import stdtrit

    steps = stdtrit(pair.freedom, 1 - level) + stdtrit(pair.freedom, POWER)
    return math.expm1(float(steps) * pair.error)


def _best_text(found: EffectsFit, race: Race, config: ConfirmConfig, best: str, rounds: str) -> str:
    rivals = [n for n in found.names if n != best and n not in race.failed]
    second = leader(found, rivals)
    if second is None:
        return f"{best} is best {rounds}: no other had enough repeats with a value"
    lead = _ratio(found.difference(best, second), level_of(race, config))
    little = f", less than the relevant {config.equivalence:.1%} (search.confirm.equivalence)"
    return f"{best} is best {rounds}: {lead} against {second}, the next" + (
        little if lead.high < config.equivalence else ""
    )


def _failures(race: Race, values: Values, failures: Failures) -> list[str]:
    """ "NAME: N of M starts gave no value in the tier", of those that are out for it."""
    found = []
    for name in sorted(race.failed):
        failed, good = starts(values, failures, name, race.rounds)
        found.append(f"{name}: {failed} of {failed + good} starts failed or missed the SLO")
    return found


def _failed(repeats: Mapping[int, float | None], failures: Mapping[int, int], until: int) -> int:
    """Starts of whole rounds that gave no value, those of which the second try did included."""
    rounds = {r for r in {*repeats, *failures} if r < until}
    return sum(max(failures.get(r, 0), int(not repeats.get(r))) for r in rounds)


def _mean(
    logs: Sequence[float], confidence: float
) -> tuple[float, float, float] | tuple[float | None, None, None]:
    from scipy.special import stdtrit

    if len(logs) < 2:
        return (math.exp(logs[0]) if logs else None), None, None
    mean, error = float(np.mean(logs)), float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    reach = float(stdtrit(len(logs) - 1, (1 + confidence) / 2)) * error
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


def _ratio(pair: Difference, level: float) -> Ratio:
    low, high = pair.bounds(level)
    return Ratio(math.expm1(pair.log_ratio), math.expm1(low), math.expm1(high))


def _effect(found: EffectsFit, name: str) -> float:
    return float(found.effects[found.names.index(name)])


def _has_value(values: Values, name: str, race: Race) -> bool:
    return any(value for r, value in values.get(name, {}).items() if r < race.rounds)


def _after(race: Race) -> str:
    return f"after {race.rounds} round{'s' * (race.rounds != 1)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
