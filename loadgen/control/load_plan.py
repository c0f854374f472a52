"""Which load comes next, and its plan for the workers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.control.arrival_times import offsets_ns, staggered_offsets_ns
from loadgen.control.ladder import Rung
from loadgen.control.ladder import next_load as next_rung
from loadgen.prompts.build import build
from loadgen.results.report import Level
from loadgen.results.stats import OVERSATURATED, summarize
from loadgen.worker.messages import Plan
from loadgen.workload.arrivals import (
    Adaptive,
    Arrival,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Ramp,
    Step,
    Trace,
)
from loadgen.workload.workload import Workload, level_count

_GIVE_UP_AFTER = 10  # failures in a row; at least twice the users
_START_S = 1e-4  # per user: about what a burst would take the client anyway
_SPARE_S = 0.05  # an open loop keeps connections ready for the requests due within this time
_SPARE_MAX = 64
_COUNT_SLACK = 1.5  # of a schedule's horizon, so that a short sample still has enough requests

Fixed = Closed | Constant | Poisson | Gamma | Ramp | Step | Trace


@dataclass(frozen=True, slots=True)
class Load:
    """One level to measure. `at`: its index into the arrival's own loads. `repeats`: the level it repeats."""

    index: int
    name: str
    arrival: Fixed
    at: int
    concurrency: int | None
    rate_per_s: float | None
    repeats: int | None = None


def next_load(workload: Workload, done: Sequence[Level], first: float | None = None) -> Load | None:
    """None when all are measured. `first`: the load to begin with, in users or requests per second.

    In another order, a level has the same arrivals and other prompts of the same kind.
    """
    arrival = workload.arrival
    if not isinstance(arrival, Adaptive):
        order = _order(workload, first)
        index = len(done)
        return fixed_load(arrival, index, order[index]) if index < len(order) else None
    rungs = [_rung(level, arrival.tiers) for level in done]
    value = next_rung(arrival, rungs, list(arrival.tiers), first)
    if value is None:
        return None
    return fixed_load(_arrival_at(arrival, value), len(done), 0)


def listed_loads(arrival: Arrival) -> tuple[float, ...]:
    """Users, or requests per second, of each listed level; empty for arrivals without a list."""
    match arrival:
        case Closed(concurrency=steps):
            return tuple(map(float, steps))
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return rates
        case _:
            return ()


def _order(workload: Workload, first: float | None) -> list[int]:
    """Indices into the arrival's loads: the nearest to `first` by ratio, then the others as listed."""
    order = list(range(level_count(workload)))
    loads = listed_loads(workload.arrival)
    if first is None or not loads:
        return order
    chosen = min(order, key=lambda at: abs(math.log(loads[at] / first)))
    return [chosen, *(at for at in order if at != chosen)]


def fixed_load(arrival: Fixed, index: int, at: int) -> Load:
    """The load `at` of the arrival, as level `index`."""
    match arrival:
        case Closed(concurrency=steps):
            return Load(index, f"closed {steps[at]}", arrival, at, steps[at], None)
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return Load(index, f"{arrival.kind} {rates[at]:g}/s", arrival, at, None, rates[at])
        case Ramp():
            name = f"ramp {arrival.from_per_s:g} to {arrival.to_per_s:g}/s"
            return Load(index, name, arrival, at, None, None)
        case Step(rate_per_s=rates):
            name = f"step {', '.join(f'{rate:g}' for rate in rates)}/s"
            return Load(index, name, arrival, at, None, None)
        case Trace():
            return Load(index, f"trace at {1 / arrival.time_scale:g}x", arrival, at, None, None)


def _arrival_at(adaptive: Adaptive, value: float) -> Fixed:
    limit = adaptive.max_concurrency
    if adaptive.loop == "closed":
        return Closed(concurrency=(round(value),))
    if adaptive.loop == "constant":
        return Constant(rate_per_s=(value,), max_concurrency=limit)
    return Poisson(rate_per_s=(value,), max_concurrency=limit)


def _rung(level: Level, tiers: Mapping[str, Mapping[str, float]]) -> Rung:
    stats = summarize(level)
    saturated = level.verdict == OVERSATURATED
    throughput = stats.metrics["throughput_output_tok_s"] or 0.0
    meets_slo: dict[str, bool | None] = {}
    for name, limits in tiers.items():
        values = {metric: stats.metrics.get(metric) for metric in limits}
        if any(value is None for value in values.values()):
            meets_slo[name] = False if saturated else None
        else:
            within = all((values[metric] or 0.0) <= limit for metric, limit in limits.items())
            meets_slo[name] = within and not saturated
    return Rung(level.load_value or 0.0, throughput, meets_slo, saturated)


def plan_of(workload: Workload, load: Load, first_number: int) -> Plan:
    """The plan of one level. `first_number`: of its first request."""
    arrival = load.arrival
    if isinstance(arrival, Closed):
        users = arrival.concurrency[load.at]
        over_s = max(workload.warmup_s / 2, users * _START_S)
        starts_ns = staggered_offsets_ns(users, over_s)
        limit = None
        connections = users
    else:
        users = 0
        starts_ns = _open_starts_ns(workload, load)
        limit = arrival.max_concurrency
        connections = _spare(starts_ns, limit)
    return Plan(
        closed=isinstance(arrival, Closed),
        starts_ns=starts_ns,
        max_in_flight=limit,
        max_requests=workload.max_requests,
        request_timeout_s=workload.request_timeout_s,
        give_up_after=max(_GIVE_UP_AFTER, 2 * users),
        first_number=first_number,
        connections=connections,
        drain=not isinstance(arrival, Closed) or workload.max_requests is not None,
    )


def planned_ns(plan: Plan, begin_ns: int) -> NDArray[np.int64]:
    """When each start of a plan falls due, by slot."""
    return begin_ns + plan.starts_ns[: plan.max_requests]


def _open_starts_ns(workload: Workload, load: Load) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    horizon_s = workload.warmup_s + workload.level_max_s + 1
    due_s = None
    if isinstance(load.arrival, Trace):
        due_s = build(workload, vocabulary=32000).due_s
    if workload.max_requests is not None and load.rate_per_s:
        horizon_s = min(horizon_s, _COUNT_SLACK * workload.max_requests / load.rate_per_s + 1)
    starts_ns = offsets_ns(load.arrival, load.at, horizon_s, workload.seed, due_s)
    return starts_ns[: workload.max_requests]


def _spare(starts_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]", limit: int | None) -> int:
    """Connections to open in advance: one per request that falls due while one is being opened."""
    if not len(starts_ns):
        return 2
    horizon_s = max(float(starts_ns[-1]) / 1e9, _SPARE_S)
    due = math.ceil(len(starts_ns) / horizon_s * _SPARE_S)
    return max(2, min(due, _SPARE_MAX, limit or _SPARE_MAX))
