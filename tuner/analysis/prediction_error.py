"""Errors of the predictions of trials, against what the trials measured. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from tuner.results.ledger import Finished
from tuner.trial.result import Completed

MIN_CONFIGURATIONS = 3  # under the same load, for a rank correlation


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric of one trial under one load, predicted and measured."""

    metric: str
    load: str
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class PredictionError:
    """The errors of one metric over `pairs`.

    `median_error`: of |predicted / measured − 1|; `bias`: the median of the signed error. `correlation`:
    Spearman's over configurations under the same load, averaged over loads (over all loads together, a
    prediction that knows the load alone would correlate); None: too few configurations under every load.
    """

    metric: str
    pairs: int
    median_error: float
    bias: float
    correlation: float | None


def prediction_report(pairs: Iterable[Pair]) -> list[PredictionError]:
    """One entry a metric, in the order of their first pairs. Pairs that measured 0 are left out."""
    of_metric = defaultdict[str, list[Pair]](list)
    for pair in pairs:
        if pair.measured:
            of_metric[pair.metric].append(pair)
    return [_error(metric, each) for metric, each in of_metric.items()]


def kept_pairs(entries: Sequence[Finished]) -> list[Pair]:
    """The predictions kept with the valid points of completed trials, paired with the measurements."""
    points = [
        p for each in entries if isinstance(each.result, Completed) for p in each.result.points
    ]
    return [
        Pair(metric, point.load, predicted, measured)
        for point in points
        if point.valid
        for metric, predicted in point.predicted.items()
        if (measured := point.metrics.get(metric)) is not None
    ]


def _error(metric: str, pairs: Sequence[Pair]) -> PredictionError:
    off = np.array([pair.predicted / pair.measured - 1 for pair in pairs])
    of_load = defaultdict[str, list[Pair]](list)
    for pair in pairs:
        of_load[pair.load].append(pair)
    ranks = [rank for each in of_load.values() if (rank := _correlation(each)) is not None]
    return PredictionError(
        metric,
        len(pairs),
        float(np.median(np.abs(off))),
        float(np.median(off)),
        float(np.mean(ranks)) if ranks else None,
    )


def _correlation(pairs: Sequence[Pair]) -> float | None:
    predicted = [pair.predicted for pair in pairs]
    measured = [pair.measured for pair in pairs]
    if len(pairs) < MIN_CONFIGURATIONS or len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    return float(spearmanr(predicted, measured).statistic)
