"""Figures of a curve that contradict each other: tenfold better at a higher load. Pure.

Latency does not fall as load rises, and throughput does not collapse, but by a disturbance or by an artefact of
the load (users in lockstep, a warm cache). The load decides nothing until it was measured again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FACTOR = 10.0
# A smaller latency is within what a busy machine adds now and then.
LATENCIES_MS = {"ttft_p50_ms": 200.0, "ttft_p99_ms": 200.0, "tpot_p50_ms": 20.0}
THROUGHPUT = "throughput_output_tok_s"
NAMES = {
    "ttft_p50_ms": "TTFT p50",
    "ttft_p99_ms": "TTFT p99",
    "tpot_p50_ms": "TPOT p50",
    THROUGHPUT: "throughput",
}
ERROR_RATE_MAX = 0.01  # above it failures explain any figure


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The figures of a valid level. `load`: users or requests/s; `name`: the load as it is shown."""

    load: float
    name: str
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two points, by their places: `worse` has the figure that is out of line, unless `other` has."""

    worse: int
    other: int
    text: str


def contradictions(points: Sequence[CurvePoint | None]) -> list[Contradiction]:
    """All pairs that contradict each other. None stands for a level that decides nothing anyway."""
    known = [
        (place, point)
        for place, point in enumerate(points)
        if point is not None and (point.metrics.get("error_rate") or 0.0) <= ERROR_RATE_MAX
    ]
    found = []
    for i, low in known:
        for j, high in known:
            if low.load < high.load:
                found += _of_pair((i, low), (j, high))
    return found


def suspects(found: Sequence[Contradiction]) -> dict[int, str]:
    """The fewest points without which nothing is contradictory (greedily), with the reason against each.

    Of two points that contradict only each other it is the one whose figure is worse.
    """
    left, chosen = list(found), dict[int, str]()
    while left:
        degree = Counter(place for each in left for place in (each.worse, each.other))
        worse = Counter(each.worse for each in left)
        place = max(degree, key=lambda at: (degree[at], worse[at], -at))
        chosen[place] = next(each.text for each in left if place in (each.worse, each.other))
        left = [each for each in left if place not in (each.worse, each.other)]
    return chosen


def _of_pair(low: tuple[int, CurvePoint], high: tuple[int, CurvePoint]) -> list[Contradiction]:
    (i, lower), (j, higher) = low, high
    found = []
    for name, floor_ms in LATENCIES_MS.items():
        before, after = lower.metrics.get(name), higher.metrics.get(name)
        if before and after is not None and before >= max(floor_ms, FACTOR * after):
            found.append(Contradiction(i, j, _text(name, lower, higher)))
    before, after = lower.metrics.get(THROUGHPUT), higher.metrics.get(THROUGHPUT)
    if before and after is not None and before >= FACTOR * after:
        found.append(Contradiction(j, i, _text(THROUGHPUT, lower, higher)))
    return found


def _text(name: str, lower: CurvePoint, higher: CurvePoint) -> str:
    unit = "tok/s" if name == THROUGHPUT else "ms"
    before, after = lower.metrics[name] or 0.0, higher.metrics[name] or 0.0
    return (
        f"{NAMES[name]} is {before:,.0f} {unit} at {lower.name}, and {after:,.0f} at {higher.name}: "
        "contradictory"
    )
