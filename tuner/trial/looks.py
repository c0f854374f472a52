"""What is asked of a trial after each of its levels: whether the levels that are left can matter. Pure."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from loadgen import Adaptive, Level
from loadgen.control.load_plan import listed_loads
from loadgen.workload.workload import Workload, level_count
from tuner.trial.pruner import Hurdle, Seen, verdict

_STEPS_PER_OCTAVE = 2  # of the loads that an adaptive ladder may choose from


class Scored(Protocol):
    """A level as an operating point."""

    @property
    def valid(self) -> bool: ...

    @property
    def metrics(self) -> Mapping[str, float | None]: ...


def looker(
    hurdle: Hurdle, workload: Workload, score: Callable[[Level], Scored]
) -> Callable[[Level], str]:
    """For `loadgen.run(after_level=…)`: how many levels were measured, and why the rest can't matter."""
    seen: list[Seen] = []

    def look(level: Level) -> str:
        if level.load_value is None:
            return ""
        point = score(level)
        seen.append(Seen(level.load_value, point.metrics if point.valid else {}))
        done = {each.load for each in seen}
        left = [load for load in possible_loads(workload) if load not in done]
        if len(seen) == level_count(workload) or not (why := verdict(hurdle, seen, left)):
            return ""
        most = "up to " if isinstance(workload.arrival, Adaptive) else ""
        return f"after {len(seen)} of {most}{level_count(workload)} levels: {why}"

    return look


def possible_loads(workload: Workload) -> tuple[float, ...]:
    """Users, or requests per second, of the levels that there may be; rising for an adaptive ladder."""
    arrival = workload.arrival
    if not isinstance(arrival, Adaptive):
        return listed_loads(arrival)
    steps = math.ceil(_STEPS_PER_OCTAVE * math.log2(arrival.highest / arrival.lowest)) + 1
    ratio = arrival.highest / arrival.lowest
    return tuple(arrival.lowest * ratio ** (i / max(steps - 1, 1)) for i in range(steps))
