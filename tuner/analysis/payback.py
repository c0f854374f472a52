"""The gain of a study over the default configuration, and when it pays for the study. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.default_cautions import default_cautions
from tuner.analysis.recommendation import beats_default
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredCandidate, RemeasuredTier
from tuner.metrics.catalogue import SIGNED
from tuner.metrics.notation import number
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, best_per_tier

FLEETS = (8, 64, 512)  # devices


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of a tier's best configuration over the default of its engine.

    `best`, `default`: in the unit of the target metric. `share`: the share that the best saves of the devices
    that serve the tier's load with the default, 1 − default / best; `interval`: of the share, where both were
    re-measured. Of one measurement each (not `remeasured`) the share is no fact. `beats`: whether the race
    shows that the best is better, which it may where the interval, made for several candidates at once, still
    reaches 0. `unavailable`: why there is no share. `cautions`: why the default may be no sane one to compare
    with.
    """

    tier: str
    best: float | None = None
    default: float | None = None
    share: float | None = None
    interval: tuple[float, float] | None = None
    remeasured: bool = False
    beats: bool = True
    is_default: bool = False
    unavailable: str = ""
    cautions: tuple[str, ...] = ()


def payback_h(device_hours: float, share: float, devices: int) -> float | None:
    """Hours after which the saved share of `devices` makes up for the study's device-hours; None: never."""
    return device_hours / (share * devices) if share > 0 else None


def gains(
    study: StudyConfig, entries: Sequence[Finished], remeasured: Mapping[str, RemeasuredTier]
) -> list[Gain]:
    """Tier by tier. `entries`: the trials of the search; `remeasured`: tier → its race."""
    found = []
    for name in study.slo.tiers:
        tier = remeasured.get(name)
        if tier is not None and (chosen := tier.chosen) is not None:
            found.append(_remeasured(study, tier, chosen))
        else:
            found.append(_searched(study, name, entries))
    return found


def _remeasured(study: StudyConfig, tier: RemeasuredTier, chosen: RemeasuredCandidate) -> Gain:
    each, name = chosen.standing, tier.tier
    if chosen.candidate.is_default:
        return Gain(name, each.mean, each.mean, 0.0, remeasured=True, is_default=True)
    over = each.over_default
    own = (row for row in tier.rows if row.candidate.is_default)
    row = next((row for row in own if row.candidate.engine == chosen.candidate.engine), None)
    default = None if row is None else row.standing.mean
    if row is None or over is None:
        why = f"the default of {chosen.candidate.engine} has no value in this tier"
        why = why if default is None else _not_positive(chosen.candidate.engine, default)
        return Gain(name, each.mean, default, remeasured=True, unavailable=why)
    share, low, high = (1 - 1 / (1 + ratio) for ratio in (over.share, over.low, over.high))
    cautions = tuple(default_cautions(study.slo, name, row.example, chosen.example))
    beats = beats_default(tier, chosen)
    interval = (low, high)
    return Gain(
        name, each.mean, default, share, interval, remeasured=True, beats=beats, cautions=cautions
    )


def _searched(study: StudyConfig, tier: str, entries: Sequence[Finished]) -> Gain:
    best = best_per_tier(study.slo, study.objective, [e.result for e in entries])[tier]
    if not isinstance(best, Winner):
        return Gain(tier, unavailable="no configuration meets the SLO")
    entry = entries[best.index]
    if entry.is_default:
        return Gain(tier, best.value, best.value, 0.0, is_default=True)
    own = _default(study, tier, entries, entry.engine)
    if isinstance(own, str):
        return Gain(tier, best.value, unavailable=own)
    worse, better = own.value, best.value
    if study.objective.target.direction == "min":
        worse, better = better, worse
    if study.objective.target.metric in SIGNED and worse <= 0:
        return Gain(tier, best.value, own.value, unavailable=_not_positive(entry.engine, worse))
    cautions = tuple(default_cautions(study.slo, tier, own.result, entry.result))
    return Gain(tier, best.value, own.value, 1 - worse / better, cautions=cautions)


def _default(
    study: StudyConfig, tier: str, entries: Sequence[Finished], engine: str
) -> Winner | str:
    """The default's best point inside the tier, or why there is none."""
    default = next((e for e in entries if e.is_default and e.engine == engine), None)
    if default is None:
        return f"the default of {engine} was not run"
    name = f"the default of {engine} (trial {default.number})"
    if default.result.status == "failed":
        return f"{name} failed: {default.result.failure}"
    own = best_per_tier(study.slo, study.objective, [default.result])[tier]
    return own if isinstance(own, Winner) else f"{name} does not meet the SLO"


def _not_positive(engine: str, earns: float) -> str:
    return f"the default of {engine} earns {number(earns, 4)}: a share needs a positive value"
