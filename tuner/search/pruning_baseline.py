"""What a study has so far, as the hurdle that its next trial has to get over. Pure."""

from collections.abc import Sequence
from statistics import median_low

from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.pruner import Curve, Hurdle, TierBar
from tuner.trial.result import Completed, OperatingPoint, TrialResult

CURVES = 64  # the last ones tell how curves go on: what crosses to the trial's machine stays small


def hurdle_of(
    results: Sequence[TrialResult], slo: Slo, objective: ObjectiveConfig, risk: float
) -> Hurdle:
    """The front, each tier's best, and the shapes of the curves of the results so far.

    The first look is at the incumbents' load: the median of those of the points on the front.
    """
    front = pareto_set(results, objective.axes)
    best = best_per_tier(slo, objective, results)
    bars = tuple(
        TierBar(tier.limits(), won.throughput if isinstance(won := best[name], Winner) else None)
        for name, tier in slo.tiers.items()
    )
    axes = tuple((axis.metric, axis.direction) for axis in objective.axes)
    sold = objective.throughput, objective.direction
    limits = [metric for bar in bars for metric in bar.limits]
    metrics = [*(metric for metric, _ in axes), objective.throughput, *limits]
    loads = [load for each in front if (load := each.point.load_value) is not None]
    return Hurdle(
        axes=axes,
        front=tuple(each.values for each in front),
        sold=sold,
        tiers=bars,
        curves=shape_of(results, metrics)[-CURVES:],
        risk=risk,
        first_load=median_low(loads) if loads else None,
    )


def shape_of(results: Sequence[TrialResult], metrics: Sequence[str]) -> tuple[Curve, ...]:
    """How the metrics of the trials went with the load: of those that measured all of their levels.

    A trial whose lowest load is not valid tells too little of how much faster a curve may be there.
    """
    whole = [
        each.points
        for each in results
        if isinstance(each, Completed) and not each.cut_short and not each.given_up
    ]
    chosen = list(dict.fromkeys(metrics))
    return tuple(_curve(points, chosen) for points in whole if points and points[0].valid)


def _curve(points: Sequence[OperatingPoint], metrics: Sequence[str]) -> Curve:
    curve = {}
    for metric in metrics:
        pairs = [
            (load, value)
            for point in points
            if point.valid
            and (load := point.load_value) is not None
            and (value := point.metrics.get(metric)) is not None
        ]
        if pairs and all(value > 0 for _, value in pairs):
            curve[metric] = tuple(pairs)
    return curve
