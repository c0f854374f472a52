"""Predictions of a landscape by an imperfect model: the truth with structured errors of a chosen size.

Errors are shared by all configurations of a framework, of a number of GPUs, of a layout and precision: a
model is wrong about kernels, not about rows. How wrong is said in pairs: of two configurations with as many
GPUs under the same load, 1 to 50 % apart, how often the model ranks them right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.search.landscapes import Bools, Floats, Landscape

BIAS, CELL, KNOB, TILT, THROUGHPUT, TTFT = 0.3, 0.08, 0.05, 0.25, 0.06, 0.4
# Pairs nearer to each other have no order worth knowing, and farther apart any model is right: with pairs
# so chosen, errors of a fifth in TPOT leave four of five in order, as the twin's do against published runs.
NEAR, FAR = 0.01, 0.5
PAIRS, ROUNDS = 40_000, 30
BLUNT = 0.65  # below that share, errors as large as these alone are not enough
LOUDEST = 8.0
KNOBS = ("knobs.step_tokens", "knobs.max_num_seqs", "knobs.memory_fraction")


@dataclass(frozen=True, eq=False)
class Prior:
    """As in `Landscape`; NaN for configurations predicted never to start. `pairs`: the share ordered right.

    `ok`: the schedulers' documented limits, which no model gets wrong.
    """

    thr: Floats
    itv: Floats
    ttft_s: Floats
    ok: Bools
    pairs: float


@dataclass(frozen=True)
class _Errors:
    """Logarithms, (n, m): of speed, of throughput beyond that, of TTFT beyond that."""

    speed: Floats
    throughput: Floats
    ttft: Floats


def distorted(landscape: Landscape, seed: int, target_share: float) -> Prior:
    """The landscape through a model that orders that share of pairs right (0.5: no information).

    The size of the errors is found by bisection. Towards one half the truth fades out of the prior as well, and
    the errors remain: such a model is confident and wrong.
    """
    rng = np.random.default_rng([5000, seed])
    errors, pairs = _errors(landscape, rng), _pairs(landscape, rng)
    log_thr = np.log(landscape.thr)
    level = _levels(landscape, log_thr)

    def throughput(knows: float, loud: float) -> Floats:
        predicted: Floats = level + knows * (log_thr - level) + loud * errors.throughput
        return predicted

    if target_share >= BLUNT:
        loud = _bisected(
            lambda x: -_share(log_thr, throughput(1.0, x), pairs), -target_share, (0.0, LOUDEST)
        )
        knows = 1.0
    else:
        loud = 1.0 + 3.0 * (BLUNT - target_share) / (BLUNT - 0.5)
        knows = _bisected(
            lambda x: _share(log_thr, throughput(x, loud), pairs), target_share, (-2.0, 2.0)
        )
    predicted = throughput(knows, loud)
    log_itv, log_ttft = np.log(landscape.itv), np.log(landscape.ttft_s)
    flat_itv, flat_ttft = _levels(landscape, log_itv), _levels(landscape, log_ttft)
    itv = flat_itv + knows * (log_itv - flat_itv) + loud * errors.speed
    ttft = flat_ttft + knows * (log_ttft - flat_ttft) + loud * errors.ttft
    return Prior(
        np.exp(predicted),
        np.exp(itv),
        np.exp(ttft),
        landscape.ok.copy(),
        _share(log_thr, predicted, pairs),
    )


def ordered_right(landscape: Landscape, prior: Prior, seed: int = 0) -> float:
    """The share of pairs, over pairs drawn anew."""
    pairs = _pairs(landscape, np.random.default_rng([6000, seed]))
    return _share(np.log(landscape.thr), np.log(prior.thr), pairs)


def _errors(landscape: Landscape, rng: np.random.Generator) -> _Errors:
    n, m = landscape.thr.shape
    paths = sorted({path for point in landscape.points for path in point})
    layout = [path for path in paths if path not in KNOBS]
    engine = [path for path in paths if path == "engine"]
    sized = np.array([f"{gpus:g}" for gpus in landscape.gpus])
    of_engine, of_layout = codes(landscape, engine), codes(landscape, layout)
    of_weights = codes(landscape, [*engine, "model.weights", "knobs.kv"])
    of_gpus = np.unique(sized, return_inverse=True)[1]
    of_pair = of_engine * (of_gpus.max() + 1) + of_gpus
    of_knobs = codes(landscape, [*layout, *KNOBS[:2]])

    def each(group: NDArray[np.int64], draw: Callable[[int], Floats]) -> Floats:
        return draw(int(group.max()) + 1)[group]

    def even(size: int) -> Floats:
        return np.log(rng.uniform(1 - BIAS, 1 + BIAS, size)) / 1.4

    def normal(deviation: float) -> Callable[[int], Floats]:
        return lambda size: deviation * rng.standard_normal(size)

    speed = each(of_engine, even) + each(of_gpus, even) + each(of_weights, normal(CELL))
    speed += each(of_layout, normal(CELL)) + each(of_knobs, normal(KNOB))
    along = (np.arange(m) / max(1, m - 1) - 0.5) * each(of_pair, normal(TILT))[:, None]
    whole = speed[:, None] + along
    cell = each(of_layout, normal(THROUGHPUT))[:, None]
    first = each(of_layout, normal(TTFT))[:, None]
    spread = np.zeros((n, m))
    return _Errors(whole, 0.85 * whole + cell + spread, -whole + first + spread)


def codes(landscape: Landscape, paths: Sequence[str]) -> NDArray[np.int64]:
    """(n,): the same number for configurations that are alike in these paths."""
    rows = ["|".join(str(point.get(path)) for path in paths) for point in landscape.points]
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def _levels(landscape: Landscape, values: Floats) -> Floats:
    """(n, m): the median over all configurations with as many GPUs under that load."""
    level = np.full(values.shape, np.nan)
    for gpus in np.unique(landscape.gpus):
        chosen = (landscape.gpus == gpus) & ~landscape.dead
        if chosen.any():
            for load in range(values.shape[1]):
                known = values[chosen, load][np.isfinite(values[chosen, load])]
                level[chosen, load] = np.median(known) if len(known) else np.nan
    return level


Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # one, the other, the load


def _pairs(landscape: Landscape, rng: np.random.Generator) -> Pairs:
    """Of equal GPUs, under the same load."""
    n, m = landscape.thr.shape
    left, right = rng.integers(n, size=(2, PAIRS * 20))
    load = rng.integers(m, size=PAIRS * 20)
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.log(landscape.thr[left, load] / landscape.thr[right, load]))
        apart = (apart > np.log1p(NEAR)) & (apart < np.log1p(FAR))
    chosen = np.flatnonzero(apart & (landscape.gpus[left] == landscape.gpus[right]))[:PAIRS]
    return left[chosen], right[chosen], load[chosen]


def _share(truth: Floats, predicted: Floats, pairs: Pairs) -> float:
    left, right, load = pairs
    same = (truth[left, load] > truth[right, load]) == (
        predicted[left, load] > predicted[right, load]
    )
    return float(same.mean())


def _bisected(rises: Callable[[float], float], target: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if rises(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
