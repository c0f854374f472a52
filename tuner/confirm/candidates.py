"""Which trials are measured again: those that may be the best of a tier, and the engines' defaults. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuner.config.groups.objective import ObjectiveConfig, Slo, Tier
from tuner.config.groups.search import ConfirmConfig
from tuner.config.groups.space import ENGINE, Point
from tuner.confirm.race import may_be_best
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, best_per_tier, in_tier, utility
from tuner.trial.result import OperatingPoint, TrialResult


@dataclass(frozen=True, slots=True)
class RaceCandidate:
    """A configuration that is measured again.

    `of`: the trial that it repeats; None for a default that the search did not try. `tiers`: in whose races it
    takes part. `scores`: tier → utility, as the search measured it; `best_loads`: at which load. `loads`: those
    of a repeat; empty: all. Loads are users or requests/s.
    """

    name: str
    of: int | None
    point: Point
    engine: str
    is_default: bool
    tiers: tuple[str, ...]
    scores: Mapping[str, float]
    loads: tuple[float, ...]
    best_loads: Mapping[str, float] = field(default_factory=dict)


def race_candidates(
    entries: Sequence[Finished],
    slo: Slo,
    objective: ObjectiveConfig,
    confirm: ConfirmConfig,
    engines: Sequence[str],
) -> tuple[RaceCandidate, ...]:
    """In the order of their trials, then the engines' untried defaults. Empty where no trial is in a tier.

    A default takes part in each tier that it is inside of.
    """
    ordered = sorted(entries, key=lambda entry: entry.number)
    best = {e.number: best_per_tier(slo, objective, [e.result]) for e in ordered}
    chosen: dict[int, set[str]] = {}
    for tier in slo.tiers:
        inside = {n: each[tier] for n, each in best.items() if isinstance(each[tier], Winner)}
        scores = {n: _utility(objective, won) for n, won in inside.items()}
        defaults = [e.number for e in ordered if e.is_default and e.number in scores]
        for number in {*may_be_best(scores, confirm), *defaults}:
            chosen.setdefault(number, set()).add(tier)
    found = [
        _candidate(entry, best[entry.number], chosen[entry.number], slo, objective, confirm)
        for entry in ordered
        if entry.number in chosen
    ]
    return (*found, *_untried_defaults(ordered, slo, engines)) if found else ()


def _candidate(
    entry: Finished,
    best: Mapping[str, object],
    tiers: set[str],
    slo: Slo,
    objective: ObjectiveConfig,
    confirm: ConfirmConfig,
) -> RaceCandidate:
    won = {name: each for name, each in best.items() if isinstance(each, Winner)}
    points = entry.result.points if entry.result.status == "completed" else ()
    loads: set[float] = set()
    if confirm.loads == "tier":
        for name in tiers:
            loads |= _loads(points, won[name].point, slo.tiers[name])
    name = f"trial {entry.number}" + (" (default)" if entry.is_default else "")
    return RaceCandidate(
        name,
        entry.number,
        entry.point,
        entry.engine,
        entry.is_default,
        tuple(tier for tier in slo.tiers if tier in tiers),
        {tier: _utility(objective, each) for tier, each in won.items()},
        tuple(sorted(loads)),
        {tier: load for tier, w in won.items() if (load := w.point.load_value) is not None},
    )


def is_censored(candidate: RaceCandidate, tier: str, slo: Slo, result: TrialResult) -> bool:
    """Whether the best load of the search is in the tier again, but its level invalid.

    The best valid level is then a lower one, whose value says nothing of the candidate's.
    """
    own = candidate.best_loads.get(tier)
    return result.status == "completed" and any(
        not point.valid and point.load_value == own and in_tier(slo.tiers[tier], point)
        for point in result.points
    )


def _loads(points: Sequence[OperatingPoint], best: OperatingPoint, tier: Tier) -> set[float]:
    """The load of the best point, and the next lower one inside the tier, in case a repeat just misses it."""
    own = best.load_value
    if own is None:
        return set()
    kept = (p.load_value for p in points if p.valid and in_tier(tier, p))
    lower = [load for load in kept if load is not None and load < own]
    return {own, max(lower)} if lower else {own}


def _untried_defaults(
    entries: Sequence[Finished], slo: Slo, engines: Sequence[str]
) -> list[RaceCandidate]:
    points: dict[str, Point] = {e: {ENGINE: e} if len(engines) > 1 else {} for e in engines}
    tried = [dict(e.point) for e in entries if e.is_default]
    return [
        RaceCandidate(f"{engine} (default)", None, point, engine, True, tuple(slo.tiers), {}, ())
        for engine, point in points.items()
        if point not in tried
    ]


def _utility(objective: ObjectiveConfig, best: object) -> float:
    assert isinstance(best, Winner)
    return utility(objective.target, best.value)
