"""What made the difference in each tier: important knobs, the effect of each change, the next trial. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuner.analysis.effects.importance import importance, random_points
from tuner.analysis.effects.reverted import (
    Changes,
    Interval,
    dispensable,
    kept,
    reverted,
    spreads_of,
    without_effect,
)
from tuner.analysis.surrogate import (
    MIN_TRIALS,
    FitQuality,
    NextTrialGain,
    Surrogate,
    fit_surrogate,
)
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import default_points
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.tiers import tier_values
from tuner.search.curve.blas import single_threaded

BASES = 256  # pairs of points that importance is estimated from
CANDIDATES = 96  # configurations among which the next trial is chosen
MIN_CORRELATION = 0.5  # of ranks; a model below it is not used to explain anything
SEED = 0


@dataclass(frozen=True, slots=True)
class KnobEffect:
    """`importance`: total-effect Sobol index, a share of the variance over the space. `changed`: the default's
    value and the best trial's; None: unchanged. `without`: the share by which the best trial's value changes
    where this knob alone returns to the default; None: unchanged, or it can't return alone."""

    path: str
    importance: float
    changed: tuple[Any, Any] | None = None
    without: Interval | None = None


@dataclass(frozen=True, slots=True)
class TierEffects:
    """What made the difference in a tier.

    `unavailable`: why there are no `knobs`. `knobs`: the most important first, without those of
    `without_effect`: changes that give the engine the same settings. `enough`: the fewest changes that keep
    most of the gain, by the model, and `enough_keeps` which share. `best`: the best trial's point, `value` its
    utility. `outside`: paths that the best trial changes and the space does not vary. `best_after`: the best
    was found by this trial, counted from 1, of `trials`; 0: none is inside the tier. `next_trial`: the gain to
    expect of one more.
    """

    tier: str
    unavailable: str = ""
    fit: FitQuality | None = None
    knobs: tuple[KnobEffect, ...] = ()
    winner: int | None = None
    best: Mapping[str, Any] = field(default_factory=dict)
    value: float = 0.0
    outside: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()
    enough: tuple[str, ...] = ()
    enough_keeps: Interval | None = None
    trials: int = 0
    best_after: int = 0
    modelled: bool = False  # the trials ran on an emulator
    next_trial: NextTrialGain | None = None

    @property
    def changes(self) -> Mapping[str, tuple[Any, Any]]:
        """Path → the default's value and the best trial's, of the changes that have an effect."""
        return {knob.path: knob.changed for knob in self.knobs if knob.changed is not None}


def knob_effects(
    study: StudyConfig,
    entries: Sequence[Finished],
    chosen: Mapping[str, int] | None = None,
    repeats: Sequence[Finished] = (),
) -> list[TierEffects]:
    """Of all finished trials of a search, tier by tier.

    `chosen`: tier → the trial that its race chose. `repeats`: what was measured after the search.
    """
    with single_threaded():
        return _knob_effects(study, entries, chosen or {}, repeats)


def _knob_effects(
    study: StudyConfig,
    entries: Sequence[Finished],
    chosen: Mapping[str, int],
    repeats: Sequence[Finished],
) -> list[TierEffects]:
    values = [tier_values(study.slo, study.objective, entry.result) for entry in entries]
    surrogate = fit_surrogate(study, entries, repeats)
    if surrogate is None:
        why = f"fewer than {MIN_TRIALS} trials with a curve"
        return [_with_progress(tier, values, TierEffects(tier, why)) for tier in study.slo.tiers]
    quality = surrogate.fit_quality()
    shares = importance(surrogate.value, surrogate.space, BASES, SEED)
    spreads = spreads_of(surrogate)
    gains = surrogate.next_trial(random_points(surrogate.space, CANDIDATES, SEED + 1))
    found = []
    for place, tier in enumerate(study.slo.tiers):
        winner = _winner(tier, entries, values, chosen)
        each = TierEffects(tier, "no configuration meets the SLO", quality[tier])
        if winner is not None:
            fit = quality[tier]
            each = _tier(study, surrogate, place, winner, shares, fit, spreads[place])
            value = _of(winner, entries, values)[tier]
            each = replace(each, value=value, best=winner.point, modelled=bool(winner.modelled))
            if not each.unavailable:
                each = replace(each, next_trial=gains[place])
        each = _with_progress(tier, values, each)
        if winner is not None:
            each = replace(each, best_after=[e.number for e in entries].index(winner.number) + 1)
        found.append(each)
    return found


def _tier(
    study: StudyConfig,
    surrogate: Surrogate,
    place: int,
    winner: Finished,
    shares: Mapping[str, np.ndarray[Any, Any]],
    fit: FitQuality,
    spread: float | None,
) -> TierEffects:
    tier, changes = surrogate.tiers[place], changes_of(study, surrogate, winner)
    start, made = changes.start, changes.made
    if why := unreliable(fit, spread):
        equal = tuple(without_effect(surrogate, changes))
        return TierEffects(tier, why, fit, winner=winner.number, without_effect=equal)
    assert spread is not None
    effects = reverted(surrogate, place, spread, changes)
    knobs = [
        KnobEffect(
            path,
            float(shares[path][place]) if path in shares else 0.0,
            (_default_value(surrogate, start, path), made[path]) if path in made else None,
            effects.get(path),
        )
        for path in surrogate.space.knobs
        if (path in made or _concerns(path, winner)) and effects.get(path, ...) is not None
    ]
    knobs.sort(key=lambda knob: -knob.importance)
    dropped = dispensable(surrogate, place, changes)
    paths = tuple(path for path in made if path not in dropped)
    return TierEffects(
        tier,
        "",
        fit,
        tuple(knobs),
        winner.number,
        outside=tuple(p for p in _changes(surrogate, start, winner.point) if p not in made),
        without_effect=tuple(path for path, effect in effects.items() if effect is None),
        enough=paths,
        enough_keeps=kept(surrogate, place, spread, changes, paths) if made else None,
    )


def changes_of(study: StudyConfig, surrogate: Surrogate, winner: Finished) -> Changes:
    """What a trial changes of its engine's default, within the space."""
    start = default_of(study, winner)
    changed = _changes(surrogate, start, winner.point)
    return Changes(start, {p: v for p, v in changed.items() if p in surrogate.space.knobs})


def unreliable(fit: FitQuality, spread: float | None) -> str:
    """Why the model explains nothing in a tier; empty if it may."""
    if fit.correlation is None or fit.correlation < MIN_CORRELATION:
        how = "none" if fit.correlation is None else f"{fit.correlation:.2f}"
        return f"the model does not predict trials that it has not seen (rank correlation {how})"
    if spread is None:
        return "the model's intervals do not hold trials that it has not seen"
    return ""


def _with_progress(
    tier: str, values: Sequence[Mapping[str, float]], each: TierEffects
) -> TierEffects:
    """With the number of trials and of the one that found the best."""
    found = [value[tier] for value in values]
    best = int(np.argmax(found)) + 1 if found and max(found) > 0 else 0
    return replace(each, trials=len(found), best_after=best)


def _winner(
    tier: str,
    entries: Sequence[Finished],
    values: Sequence[Mapping[str, float]],
    chosen: Mapping[str, int],
) -> Finished | None:
    if tier in chosen:
        return next((entry for entry in entries if entry.number == chosen[tier]), None)
    best = max(range(len(entries)), key=lambda i: values[i][tier], default=None)
    return None if best is None or not values[best][tier] else entries[best]


def default_of(study: StudyConfig, winner: Finished) -> Point:
    """The default point of the winner's engine, which a point names as the study does."""
    defaults = default_points(study)
    return defaults.get(str(winner.point.get(ENGINE)), next(iter(defaults.values())))


def _of(
    entry: Finished, entries: Sequence[Finished], values: Sequence[Mapping[str, float]]
) -> Mapping[str, float]:
    return next(v for e, v in zip(entries, values, strict=True) if e.number == entry.number)


def _changes(surrogate: Surrogate, start: Point, end: Point) -> dict[str, Any]:
    return {
        path: value
        for path, value in end.items()
        if path != ENGINE and _default_value(surrogate, start, path) != value
    }


def _default_value(surrogate: Surrogate, start: Point, path: str) -> Any:
    """The default's value of a path; None: unset, the engine decides."""
    return start.get(path, surrogate.space.fixed.get(path))


def _concerns(path: str, winner: Finished) -> bool:
    return not path.startswith(f"{ENGINE}.") or path in winner.point
