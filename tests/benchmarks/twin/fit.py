"""Fits host costs to measured runs.

For a fixed schedule, a request's latency is linear in the costs: kernel time, a number of steps, a number of
prefill steps. Costs minimise the absolute error of the logarithms; then runs are simulated again with them, and
only that is scored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from serving.twin.engine.engine import Engine, HostCosts
from serving.twin.engine.request import Request
from tests.benchmarks.twin.points import Point

Floats = NDArray[np.float64]
# A cost per request in the step, one per prompt token and a factor on prefill kernels were also tried: they
# improve no fit to other models.
COSTS = ("step_s", "prefill_step_s", "latency_s")
MOST = np.array([5e-3, 50e-3, 150e-3])
TTFT_WEIGHT = 0.4  # of an error of TTFT, relative to one of TPOT
NEWTON_STEPS = 6


class Recorder:
    """Records of each step of an engine: kernel seconds, 1, and 1 if it has prefill."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._begin = engine, engine.begin
        self.parts = list[tuple[float, float, float]]()
        self.ends = list[float]()
        engine.begin = self.begin  # type: ignore[method-assign]

    def begin(self, now_s: float) -> float | None:
        """In place of `Engine.begin`."""
        end_s = self._begin(now_s)
        if end_s is None:
            return None
        engine = self._engine
        prompts = any(batch is not None and batch.chunks for batch in engine._batches)
        host_s = engine.host.interval_s(0.0, prompts=prompts)
        self.parts.append((end_s - now_s - host_s, 1.0, float(prompts)))
        self.ends.append(end_s)
        return end_s


@dataclass(frozen=True, slots=True)
class Terms:
    """TPOT and TTFT of a point's run as linear terms: kernel seconds, then the multiplicity of each cost."""

    tpot: Floats  # (1 + len(COSTS),)
    ttft: Floats


def terms_of(point: Point, recorder: Recorder, done: Sequence[Request]) -> Terms:
    """Means over all requests, or over the middle fifth where medians were published."""
    ends = np.array(recorder.ends)
    sums = np.concatenate((np.zeros((1, 3)), np.cumsum(np.array(recorder.parts), axis=0)))
    served = [request for request in done if request.generated > 1]
    arrived, first, last = (
        np.searchsorted(ends, [getattr(r, name) - 1e-9 for r in served]) + 1
        for name in ("arrived_s", "first_token_s", "last_token_s")
    )
    arrived[np.array([r.arrived_s for r in served]) <= 0] = 0
    generated = np.array([request.generated for request in served])[:, None]
    zeros, ones = np.zeros((len(served), 1)), np.ones((len(served), 1))
    tpots = np.hstack(((sums[last] - sums[first]) / (generated - 1), zeros))
    ttfts = np.hstack((sums[first] - sums[arrived], ones))
    if point.means:
        return Terms(tpots.mean(axis=0), ttfts.mean(axis=0))
    return Terms(
        _middle(tpots, [(r.last_token_s - r.first_token_s) / (r.generated - 1) for r in served]),
        _middle(ttfts, [r.first_token_s - r.arrived_s for r in served]),
    )


def _middle(rows: Floats, by: Sequence[float]) -> Floats:
    order = np.argsort(by)
    count = len(order)
    chosen = order[int(0.4 * count) : max(int(0.6 * count), int(0.4 * count) + 1)]
    middle: Floats = rows[chosen].mean(axis=0)
    return middle


def fit(points: Sequence[Point], terms: Mapping[int, Terms]) -> Floats:
    """The costs that fit these points best; `terms` by position. A model weighs as the root of its runs."""
    runs = Counter(point.config.model for point in points)
    rows, aims, weights = list[Floats](), list[float](), list[float]()
    for index, point in enumerate(points):
        if index not in terms or point.ttft_s is None or point.tpot_s is None:
            continue
        weight = runs[point.config.model] ** -0.5
        rows += [terms[index].tpot, terms[index].ttft]
        aims += [point.tpot_s, point.ttft_s]
        weights += [weight, weight * TTFT_WEIGHT]
    return least_absolute(np.array(rows), np.array(aims), np.array(weights), MOST)


def least_absolute(rows: Floats, aims: Floats, weights: Floats, most: Floats) -> Floats:
    """Minimises Σ w · |log((kernels + terms · costs) / aims)| with costs from 0 to `most`.

    A sequence of linear programs, each linearised around the last solution. `rows`: kernels, then terms.
    """
    kernels, terms = rows[:, 0], rows[:, 1:]
    costs = np.zeros(terms.shape[1])
    for _ in range(NEWTON_STEPS):
        found = kernels + terms @ costs
        slope = terms / found[:, None]
        offset = np.log(found / aims) - slope @ costs
        costs = _program(slope, offset, weights, costs, most)
    return costs


def _program(
    slope: Floats, offset: Floats, weights: Floats, around: Floats, most: Floats
) -> Floats:
    """Minimises Σ w · |slope · x + offset| with x close to where the slope was taken."""
    count, size = slope.shape
    reach = np.maximum(np.abs(around), 0.1 * most)
    low, high = np.maximum(0.0, around - reach), np.minimum(most, around + reach)
    eye = np.eye(count)
    answer = linprog(
        np.concatenate((np.zeros(size), weights)),
        A_ub=np.block([[slope, -eye], [-slope, -eye]]),
        b_ub=np.concatenate((-offset, offset)),
        bounds=[*zip(low, high, strict=True), *[(0, None)] * count],
        method="highs",
    )
    costs: Floats = answer.x[:size]
    return costs


def as_costs(values: Floats) -> HostCosts:
    step_s, prefill_step_s, latency_s = values.tolist()
    return HostCosts(step_s=step_s, prefill_step_s=prefill_step_s, latency_s=latency_s)


def as_python(costs: HostCosts) -> str:
    """The Python expression of these costs, for `serving.twin.engine.host`."""
    return f"HostCosts({', '.join(f'{name}={getattr(costs, name):.3g}' for name in COSTS)})"
