"""The levels of one load as they are measured, and which comes next: also one that is measured again."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from loadgen.control.load_plan import Load, next_load
from loadgen.results.contradictions import CurvePoint, contradictions, suspects
from loadgen.results.report import Level
from loadgen.results.stats import summarize
from loadgen.workload.workload import Workload

AfterLevel = Callable[[Level], str]


class MeasuredLevels:
    """A level that contradicts others is measured again, once, before the next load.

    If that settles it the second measurement stands, otherwise neither decides anything. `first`: the load to
    begin with, in users or requests per second.
    """

    def __init__(self, workload: Workload, first: float | None = None) -> None:
        self._workload, self._first = workload, first
        self._loads: list[Load] = []
        self._levels: list[Level] = []
        self._points: list[CurvePoint | None] = []
        self._why: dict[int, str] = {}  # of levels that were measured again

    def next(self) -> Load | None:
        """The load to measure now; None when all are measured."""
        index = len(self._levels)
        if (due := self._due()) is not None:
            place, self._why[place] = due[0], due[1]
            return replace(self._loads[place], index=index, repeats=place)
        standing = [self._levels[place] for place in self._standing()]
        load = next_load(self._workload, standing, self._first)
        return None if load is None else replace(load, index=index)

    def add(self, load: Load, level: Level) -> None:
        """The level that was measured at the load that `next` gave."""
        self._loads.append(load)
        self._levels.append(level)
        self._points.append(_point(level))

    def _due(self) -> tuple[int, str] | None:
        """The place of the level that has to be measured again, and why; None if none has."""
        standing = self._standing()
        found = contradictions([self._points[place] for place in standing])
        doubtful = suspects(found)
        # Where a suspect was confirmed, what it contradicts is suspect too.
        partners = {place: each.text for each in found for place in (each.worse, each.other)}
        for at, text in (*doubtful.items(), *partners.items()):
            if self._loads[standing[at]].repeats is None:
                return standing[at], text
        return None

    def ended_by(self, after_level: AfterLevel | None, level: Level) -> str:
        """Why the caller ends the load after this level; what is due again decides nothing yet."""
        why = "" if after_level is None else after_level(level)
        return "" if self._due() is not None else why

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels in their order; those that decide nothing carry the reason."""
        standing = self._standing()
        points = [self._points[place] for place in standing]
        reasons = {
            standing[at]: f"{text}, {self._how_often(standing[at])}"
            for at, text in suspects(contradictions(points)).items()
        }
        for load in self._loads:
            if load.repeats is not None:
                reasons[load.repeats] = f"{self._why[load.repeats]}, measured again"
        return tuple(
            replace(level, contradicted=reasons[place]) if place in reasons else level
            for place, level in enumerate(self._levels)
        )

    def _how_often(self, place: int) -> str:
        return "measured once" if self._loads[place].repeats is None else "measured twice"

    def _standing(self) -> Sequence[int]:
        """The places of the levels that count: of a load that was measured again the second."""
        again = {load.repeats: place for place, load in enumerate(self._loads)}
        first = (place for place, load in enumerate(self._loads) if load.repeats is None)
        return [again.get(place, place) for place in first]


def _point(level: Level) -> CurvePoint | None:
    load = level.load_value
    if load is None:
        return None
    stats = summarize(level)
    return None if stats.invalid_because else CurvePoint(load, level.load, stats.metrics)
