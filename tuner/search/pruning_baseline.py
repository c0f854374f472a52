"""The results of a study so far, as the baseline by which its next trial is pruned. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low

from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.pruner import Curve, PruningBaseline, TierBest
from tuner.trial.result import Completed, OperatingPoint, TrialResult

MAX_CURVES = 64  # the latest ones, so that the message to the trial's machine stays small


def pruning_baseline(
    results: Sequence[TrialResult], slo: Slo, objective: ObjectiveConfig, risk: float
) -> PruningBaseline:
    """The front, the best of each tier, and the curves of the results so far.

    `risk`: the probability of a gain below which a trial is pruned. The first load to measure is the median
    load of the points on the front.
    """
    front = pareto_set(results, objective.axes)
    best = best_per_tier(slo, objective, results)
    tiers = tuple(
        TierBest(tier.limits(), won.value if isinstance(won := best[name], Winner) else None)
        for name, tier in slo.tiers.items()
    )
    axes = tuple((axis.metric, axis.direction) for axis in objective.axes)
    loads = [load for each in front if (load := each.point.load_value) is not None]
    baseline = PruningBaseline(
        axes=axes,
        front=tuple(each.values for each in front),
        target=(objective.metric, objective.direction),
        tiers=tiers,
        curves=(),
        risk=risk,
        first_load=median_low(loads) if loads else None,
    )
    return replace(baseline, curves=curves_of(results, metrics_of(baseline))[-MAX_CURVES:])


class PruningHistory:
    """The results of a study so far, short of those that no baseline rests on: asking it costs the same however
    many there are."""

    def __init__(self, slo: Slo, objective: ObjectiveConfig, risk: float) -> None:
        self._slo, self._objective, self._risk = slo, objective, risk
        self._leaders: list[TrialResult] = []  # those on the front, and the best of each tier
        self._whole: deque[TrialResult] = deque(maxlen=MAX_CURVES)

    def add(self, result: TrialResult) -> None:
        """The next result."""
        if curves_of([result], []):
            self._whole.append(result)
        found = [*self._leaders, result]
        front = {each.index for each in pareto_set(found, self._objective.axes)}
        best = best_per_tier(self._slo, self._objective, found).values()
        kept = front | {each.index for each in best if isinstance(each, Winner)}
        self._leaders = [found[index] for index in sorted(kept)]

    def baseline(self) -> PruningBaseline:
        """As `pruning_baseline` of all results."""
        whole = pruning_baseline(self._leaders, self._slo, self._objective, self._risk)
        curves = curves_of(self._whole, metrics_of(whole))
        return replace(whole, curves=curves)


def metrics_of(baseline: PruningBaseline) -> list[str]:
    """The metrics that a baseline's curves are of."""
    axes, limits = baseline.axes, (metric for tier in baseline.tiers for metric in tier.limits)
    return [*(metric for metric, _ in axes), baseline.target[0], *limits]


def curves_of(results: Sequence[TrialResult], metrics: Sequence[str]) -> tuple[Curve, ...]:
    """The metrics by load of the trials that measured all of their levels.

    A trial whose lowest load is not valid is left out: it does not show how fast a curve starts.
    """
    whole = [
        each.points
        for each in results
        if isinstance(each, Completed) and not each.cut_short and not each.pruned
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
