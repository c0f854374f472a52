"""How near each trial comes to the best of every tier; by what was measured again, where it was. Pure."""

from collections.abc import Mapping, Sequence

from tuner.config.groups.objective import Axis
from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, tier_values, unworth


def shares_of_best(
    study: StudyConfig,
    measured: Sequence[Finished],
    winners: Mapping[str, Winner],
    again: Mapping[str, ConfirmedTier],
) -> list[dict[str, float]]:
    """For each trial, by tier, which share of the winner's figure it has; 0 where it is not inside.

    What the search measured of a trial that was not measured again is held against the winner's repeats, and
    never above them: it was not in the race.
    """
    sold = study.objective.sold
    found = []
    for entry in measured:
        values = tier_values(study.slo, study.objective, entry.result)
        shares = {}
        for tier, won in winners.items():
            best, own = _again(again.get(tier), entry.number)
            if own is None and values[tier]:
                own = unworth(sold, values[tier])
            best = won.throughput if best is None else best
            shares[tier] = 0.0 if own is None else min(1.0, share(sold, own, best))
        found.append(shares)
    return found


def share(sold: Axis, value: float, best: float) -> float:
    """Of a figure that is minimised the reciprocal's; of one at or below 0 none, unless it is the best."""
    if value == best:
        return 1.0
    if sold.direction == "min":
        return best / value
    return max(0.0, value / best) if best > 0 or sold.metric not in SIGNED else 0.0


def _again(tier: ConfirmedTier | None, number: int) -> tuple[float | None, float | None]:
    """The winner's figure and the trial's, as measured again; None where it was not."""
    if tier is None or tier.chosen is None:
        return None, None
    row = next((row for row in tier.rows if row.contender.of == number), None)
    return tier.chosen.standing.mean, None if row is None else row.standing.mean
