"""Which configuration to run in each tier, and which in all of them. Pure.

Re-measured values decide where there are some.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.config.groups.objective import Axis
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredCandidate, RemeasuredTier
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, from_utility, tier_values

COMPROMISE = 0.8  # share of each tier's best that one configuration for all of them keeps at least


@dataclass(frozen=True, slots=True)
class NoBetter:
    """Nothing is better than a default in a tier. `default`: the trial's place among the measured ones.

    `least`: the smallest gain, a share, that would not have counted as noise; None: unknown.
    """

    default: int
    least: float | None
    remeasured: bool


def no_better(
    study: StudyConfig,
    measured: Sequence[Finished],
    winners: Mapping[str, Winner],
    remeasured: Mapping[str, RemeasuredTier],
) -> dict[str, NoBetter]:
    """Tier → what there is to say, of the tiers in which no configuration beats the default beyond noise."""
    found = {}
    for name, won in winners.items():
        tier = remeasured.get(name)
        decided = tier is not None and tier.chosen is not None
        each = _raced(measured, tier) if decided and tier else _once(study, measured, name, won)
        if each is not None:
            found[name] = each
    return found


def beats_default(tier: RemeasuredTier, row: RemeasuredCandidate) -> bool:
    """Whether a candidate is significantly better than its engine's default, which may have no value at all."""
    if row.candidate.is_default:
        return False
    own = [each for each in tier.rows if each.candidate.is_default]
    default = next((each for each in own if each.candidate.engine == row.candidate.engine), None)
    over = row.standing.over_default
    if default is None or over is None or over.low > 0:
        return True
    # The race has a test of its own, in which no third candidate's noise counts.
    chosen = row is tier.chosen or row.standing.out_after is None
    return over.share > 0 and chosen and default.standing.out_after is not None


def _raced(measured: Sequence[Finished], tier: RemeasuredTier) -> NoBetter | None:
    chosen = tier.chosen
    assert chosen is not None
    own = [row for row in tier.rows if row.candidate.is_default]
    default = next((row for row in own if row.candidate.engine == chosen.candidate.engine), None)
    places = {entry.number: place for place, entry in enumerate(measured)}
    of = None if default is None else default.candidate.of
    if of not in places:
        return None
    over = chosen.standing.over_default
    if beats_default(tier, chosen):
        return None
    rivals = [row.standing.over_default for row in tier.rows if not row.candidate.is_default]
    gains = [each for each in (over, *rivals) if each is not None and each.low > -1]
    widths = [math.log((1 + each.high) / (1 + each.low)) / 2 for each in gains]
    return NoBetter(places[of], math.expm1(min(widths)) if widths else None, True)


def _once(
    study: StudyConfig, measured: Sequence[Finished], tier: str, won: Winner
) -> NoBetter | None:
    """By `search.confirm`'s noise of a start, as the candidates of a race are chosen."""
    from scipy.special import ndtri

    results = [entry.result for entry in measured]
    values = [tier_values(study.slo, study.objective, result)[tier] for result in results]
    defaults = [i for i, entry in enumerate(measured) if entry.is_default and values[i]]
    if not defaults:
        return None
    default = max(defaults, key=lambda i: values[i])
    confirm, inside = study.search.confirm, sum(value > 0 for value in values)
    level = (1 - confirm.confidence) / 2 / inside
    reach = -float(ndtri(level)) * math.sqrt(2) * confirm.noise
    if won.index == default or math.log(values[won.index] / values[default]) <= reach:
        return NoBetter(default, math.expm1(reach), False)
    return None


def compromise(shares: Sequence[Mapping[str, float]]) -> int | None:
    """The place of the trial with the largest sum of shares among those that keep `COMPROMISE` of each tier's
    best."""
    kept = [i for i, each in enumerate(shares) if each and min(each.values()) >= COMPROMISE]
    return max(kept, key=lambda i: (sum(shares[i].values()), -i), default=None)


def shares_of_best(
    study: StudyConfig,
    measured: Sequence[Finished],
    winners: Mapping[str, Winner],
    remeasured: Mapping[str, RemeasuredTier],
) -> list[dict[str, float]]:
    """For each trial: tier → its value as a share of the winner's; 0 where it is not inside the tier.

    A trial that was not re-measured is compared by the search's measurement, and its share is at most 1, as its
    value was not part of the race.
    """
    target = study.objective.target
    found = []
    for entry in measured:
        values = tier_values(study.slo, study.objective, entry.result)
        shares = {}
        for tier, won in winners.items():
            best, own = _remeasured(remeasured.get(tier), entry.number)
            if own is None and values[tier]:
                own = from_utility(target, values[tier])
            best = won.value if best is None else best
            shares[tier] = 0.0 if own is None else min(1.0, share(target, own, best))
        found.append(shares)
    return found


def share(target: Axis, value: float, best: float) -> float:
    """The value as a share of the best: best / value where less is better; 0 of a best margin ≤ 0."""
    if value == best:
        return 1.0
    if target.direction == "min":
        return best / value
    return max(0.0, value / best) if best > 0 or target.metric not in SIGNED else 0.0


def _remeasured(tier: RemeasuredTier | None, number: int) -> tuple[float | None, float | None]:
    """The re-measured values of the winner and of the trial; None where there is none."""
    if tier is None or tier.chosen is None:
        return None, None
    row = next((row for row in tier.rows if row.candidate.of == number), None)
    return tier.chosen.standing.mean, None if row is None else row.standing.mean
