"""The load levels that a trial will measure: listed ones, or those of an adaptive ladder. Pure."""

import numpy as np
from numpy.typing import NDArray

from loadgen.control.ladder import Rung, next_load
from loadgen.control.load_plan import listed_loads
from loadgen.workload.arrivals import Adaptive, Closed
from loadgen.workload.workload import Workload
from tuner.study.planning.speed import Speed, mean_tokens

Floats = NDArray[np.float64]
TPOT_LIMITS = ("tpot_p50_ms", "tpot_mean_ms")  # limits of a tier that a mean latency tells


def expected_loads(workload: Workload, speed: Speed) -> Floats:
    """Users or requests/s of each level, in the order of measurement; 0 where a load has no number."""
    arrival = workload.arrival
    if not isinstance(arrival, Adaptive):
        listed = listed_loads(arrival)
        return np.array(listed or (0.0,), np.float64)
    done: list[Rung] = []
    while (load := next_load(arrival, done, list(arrival.tiers))) is not None:
        done.append(_rung(arrival, workload, speed, load))
    return np.array([rung.load for rung in done], np.float64)


def users_at(workload: Workload, speed: Speed, loads: Floats) -> Floats:
    """Requests in flight at each load."""
    arrival = workload.arrival
    closed = isinstance(arrival, Closed) or (
        isinstance(arrival, Adaptive) and arrival.loop == "closed"
    )
    if closed or not loads.any():
        return np.maximum(loads, 1.0)
    return speed.in_flight(loads)


def _rung(arrival: Adaptive, workload: Workload, speed: Speed, load: float) -> Rung:
    users = users_at(workload, speed, np.array([load]))
    latency_s = float(speed.at(users)[0])
    rate = float(users[0]) / latency_s
    token_ms = 1e3 * latency_s / max(mean_tokens(workload)[1], 1.0)
    meets: dict[str, bool | None] = {}
    for name, tier in arrival.tiers.items():
        known = [tier[limit] for limit in TPOT_LIMITS if limit in tier]
        meets[name] = token_ms <= min(known) if known else None
    saturated = arrival.loop != "closed" and load > 1.2 * rate
    return Rung(load, min(rate, load) if arrival.loop != "closed" else rate, meets, saturated)
