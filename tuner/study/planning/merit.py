"""What a configuration is expected to be worth in each tier, and the loads at which that is measured. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen import Workload
from tuner.study.planning.ladder import TPOT_LIMITS, expected_loads, users_at
from tuner.study.planning.speed import Speed, mean_tokens

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Merit:
    """`rate`: the most requests/s a device, whatever the latency.

    By tier: `in_tier`, the most inside it (0: none is); `places` of the levels that a repeat measures.
    """

    rate: float
    in_tier: tuple[float, ...]
    places: tuple[tuple[int, ...], ...]


def merit_of(
    workload: Workload, speed: Speed, devices: int, tiers: Mapping[str, Mapping[str, float]]
) -> Merit:
    """By the mean time of a token: limits on other latencies are not looked at."""
    if speed.fails:
        return Merit(0.0, (0.0,) * len(tiers), ((),) * len(tiers))
    loads = expected_loads(workload, speed)
    users = users_at(workload, speed, loads)
    latency_s = speed.at(users)
    rates = users / latency_s / devices
    token_ms = 1e3 * latency_s / max(mean_tokens(workload)[1], 1.0)
    values, places = list[float](), list[tuple[int, ...]]()
    for limits in tiers.values():
        limit = min((limits[name] for name in TPOT_LIMITS if name in limits), default=np.inf)
        inside = [i for i in np.argsort(loads) if token_ms[i] <= limit]
        best = max(inside, key=lambda i: rates[i], default=None)
        lower = [i for i in inside if best is not None and loads[i] < loads[best]]
        values.append(0.0 if best is None else float(rates[best]))
        places.append(() if best is None else (*(int(i) for i in lower[-1:]), int(best)))
    return Merit(float(rates.max()), tuple(values), tuple(places))
