"""What the search learns from the result of a trial. Pure."""

from tuner.config.study import StudyConfig
from tuner.results.tiers import tier_values
from tuner.search.base import Outcome
from tuner.search.retries import is_transient
from tuner.trial.result import Failed, TrialResult

QUALITY_REJECTED = "QualityRejected"


def outcome_of(config: StudyConfig, result: TrialResult, attempts: int = 0) -> Outcome:
    """What the search learns from a result: nothing of a point that failed all its `attempts` by its nodes."""
    device_s = result.timings.wall_s * result.config.devices
    if isinstance(result, Failed):
        nodes = is_transient(result)
        return Outcome(
            None,
            failure=result.failure,
            transient=nodes and not attempts,
            unknown=nodes,
            device_s=device_s,
        )
    if result.quality is not None and result.quality.rejected:
        return Outcome(None, failure=QUALITY_REJECTED, device_s=device_s)
    values = tier_values(config.slo, config.objective, result)
    # Above the error rate of every tier a level is not part of the curve.
    most_errors = max(tier.error_rate for tier in config.slo.tiers.values())
    points = tuple(p for p in result.points if (p.metrics.get("error_rate") or 0.0) <= most_errors)
    return Outcome(values, points, device_s=device_s)
