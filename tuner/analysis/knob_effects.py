"""What moved each tier of a study: which knobs, what each change brings, what more trials would. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuner.analysis.importance import importance, shapley, spread
from tuner.analysis.surrogate import LEAST_TRIALS, Chance, Fit, Surrogate, believed
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import default_points
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.tiers import tier_values

BASES = 256  # pairs of points that importance is estimated from
CANDIDATES = 96  # configurations among which the next trial is looked for
LEAST_CORRELATION = 0.5  # of ranks, below which the model explains nothing
SEED = 0


@dataclass(frozen=True, slots=True)
class Knob:
    """`importance`: total effect, a share of the variance over the space. `changed`: from what the default
    says to what the best does; None: left alone. `brings`: of worth, by the model."""

    path: str
    importance: float
    changed: tuple[Any, Any] | None = None
    brings: float | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """A tier. `knobs`: the most important first; of those changed, `brings` add up to `best` − `default`, the
    model's own values. `unknown`: why nothing can be told of the knobs.

    `measured`: the same two, as trials measured them; None: the default was not. `outside`: what the best
    changes beside the space, of which the model knows nothing. `improved`: after how many trials the best
    was found, of `trials`; `further`: what one more trial might bring.
    """

    tier: str
    unknown: str = ""
    fit: Fit | None = None
    knobs: tuple[Knob, ...] = ()
    winner: int | None = None
    default: float = 0.0
    best: float = 0.0
    measured: tuple[float, float] | None = None
    outside: tuple[str, ...] = ()
    trials: int = 0
    improved: int = 0
    modelled: bool = False  # not measured: by an emulator
    further: Chance | None = None


def explained(
    study: StudyConfig, entries: Sequence[Finished], chosen: Mapping[str, int] | None = None
) -> list[Explained]:
    """Of all finished trials of a search, tier by tier. `chosen`: tier → the trial that was confirmed."""
    values = [tier_values(study.slo, study.objective, entry.result) for entry in entries]
    belief = believed(study, entries)
    if belief is None:
        why = f"fewer than {LEAST_TRIALS} trials showed a curve"
        return [_told(tier, values, Explained(tier, why)) for tier in study.slo.tiers]
    quality = belief.fit_quality()
    shares = importance(belief.value, belief.domain, BASES, SEED)
    chances = belief.next_trial(spread(belief.domain, CANDIDATES, SEED + 1))
    found = []
    for place, tier in enumerate(study.slo.tiers):
        winner = _winner(tier, entries, values, chosen or {})
        each = Explained(tier, "nothing keeps its promises", quality[tier])
        if winner is not None:
            each = _tier(study, belief, place, winner, shares, quality[tier])
            default = _tried(_default(study, winner), entries, values)
            both = None if default is None else (default[tier], _of(winner, entries, values)[tier])
            each = replace(each, measured=both, modelled=bool(winner.modelled))
            if not each.unknown:
                each = replace(each, further=chances[place])
        told = _told(tier, values, each)
        if winner is not None:
            told = replace(told, improved=[e.number for e in entries].index(winner.number) + 1)
        found.append(told)
    return found


def _tier(
    study: StudyConfig,
    belief: Surrogate,
    place: int,
    winner: Finished,
    shares: Mapping[str, np.ndarray[Any, Any]],
    fit: Fit,
) -> Explained:
    tier = belief.tiers[place]
    if fit.correlation is None or fit.correlation < LEAST_CORRELATION:
        how = "none" if fit.correlation is None else f"{fit.correlation:.2f}"
        why = f"the model does not foretell trials it has not seen (rank correlation {how})"
        return Explained(tier, why, fit, winner=winner.number)
    start = _default(study, winner)
    changed = _changes(belief, start, winner.point)
    changes = {path: value for path, value in changed.items() if path in belief.domain.knobs}
    brings = shapley(belief.value, belief.domain, start, changes)
    knobs = [
        Knob(
            path,
            float(shares[path][place]) if path in shares else 0.0,
            (_plain(belief, start, path), changes[path]) if path in changes else None,
            float(brings[path][place]) if path in changes else None,
        )
        for path in belief.domain.knobs
        if path in changes or _concerns(path, winner)
    ]
    outside = tuple(path for path in changed if path not in changes)
    knobs.sort(key=lambda knob: -knob.importance)
    ends = belief.value([start, belief.domain.kept({**start, **changes})])[:, place]
    return Explained(
        tier, "", fit, tuple(knobs), winner.number, float(ends[0]), float(ends[1]), outside=outside
    )


def _told(tier: str, values: Sequence[Mapping[str, float]], each: Explained) -> Explained:
    """With how the tier's best came about."""
    found = [value[tier] for value in values]
    best = int(np.argmax(found)) + 1 if found and max(found) > 0 else 0
    return replace(each, trials=len(found), improved=best)


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


def _default(study: StudyConfig, winner: Finished) -> Point:
    """That of the winner's engine, by the name that the study gives it."""
    defaults = default_points(study)
    return defaults.get(str(winner.point.get(ENGINE)), next(iter(defaults.values())))


def _tried(
    point: Point, entries: Sequence[Finished], values: Sequence[Mapping[str, float]]
) -> Mapping[str, float] | None:
    return next((v for e, v in zip(entries, values, strict=True) if dict(e.point) == point), None)


def _of(
    entry: Finished, entries: Sequence[Finished], values: Sequence[Mapping[str, float]]
) -> Mapping[str, float]:
    return next(v for e, v in zip(entries, values, strict=True) if e.number == entry.number)


def _changes(belief: Surrogate, start: Point, end: Point) -> dict[str, Any]:
    return {
        path: value
        for path, value in end.items()
        if path != ENGINE and _plain(belief, start, path) != value
    }


def _plain(belief: Surrogate, start: Point, path: str) -> Any:
    """What the default says of a path; None: nothing, the engine decides."""
    return start.get(path, belief.domain.fixed.get(path))


def _concerns(path: str, winner: Finished) -> bool:
    return not path.startswith(f"{ENGINE}.") or path in winner.point
