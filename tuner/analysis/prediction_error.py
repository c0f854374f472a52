"""What was predicted of trials before they ran, held against what they measured. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from tuner.results.ledger import Finished
from tuner.trial.result import Completed

LEAST = 3  # configurations under the same load, from which on an order says something


@dataclass(frozen=True, slots=True)
class Pair:
    """Of one metric of one trial under one load."""

    metric: str
    load: str
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class PredictionError:
    """`median_error`: |predicted / measured − 1|. `bias`: the median of that with its sign.

    `correlation`: Spearman's, of configurations under the same load, by the mean over loads: over all loads
    together anything that knows more load from less would do well. None: too few under any one load.
    """

    metric: str
    pairs: int
    median_error: float
    bias: float
    correlation: float | None


def prediction_report(pairs: Iterable[Pair]) -> list[PredictionError]:
    """Metric by metric, in the order in which they come. Pairs that measured 0 are left out."""
    of_metric = defaultdict[str, list[Pair]](list)
    for pair in pairs:
        if pair.measured:
            of_metric[pair.metric].append(pair)
    return [_error(metric, each) for metric, each in of_metric.items()]


def kept_pairs(entries: Sequence[Finished]) -> list[Pair]:
    """What was foretold of the valid points of completed trials, as it was kept with them."""
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
    orders = [order for each in of_load.values() if (order := _order(each)) is not None]
    return PredictionError(
        metric,
        len(pairs),
        float(np.median(np.abs(off))),
        float(np.median(off)),
        float(np.mean(orders)) if orders else None,
    )


def _order(pairs: Sequence[Pair]) -> float | None:
    predicted = [pair.predicted for pair in pairs]
    measured = [pair.measured for pair in pairs]
    if len(pairs) < LEAST or len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    return float(spearmanr(predicted, measured).statistic)
