"""How close each trial comes to the best of every tier, by re-measured values where there are some. Pure."""

from collections.abc import Mapping, Sequence

from tuner.config.groups.objective import Axis
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, from_utility, tier_values


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
