"""A study's budget: what its trials cost so far, and whether it still affords another one. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.groups.search import Budget
from tuner.metrics.notation import number, stated
from tuner.results.ledger import Attempt, Entry, Finished
from tuner.trial.result import VIRTUAL


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of finished `trials`. `usd`: None without a price. `wall_s`: seconds in which any trial ran."""

    trials: int
    device_hours: float
    usd: float | None
    wall_s: float


def spent(entries: Sequence[Entry], usd_per_device_hour: float | None = None) -> Spent:
    """The cost of a ledger's entries, repeats included. Device-hours of the virtual clock are virtual.

    Failed attempts cost time and are no trials.
    """
    spending = Spending()
    for entry in entries:
        spending.add(entry)
    return spending.spent(usd_per_device_hour)


class Spending:
    """What a study's entries cost so far. Adding one does not take longer with their number."""

    def __init__(self) -> None:
        self._trials, self._hours, self._wall_s = 0, 0.0, 0.0
        self._asked: dict[int, float] = {}
        self._covered: list[tuple[float, float]] = []  # disjoint, rising

    def add(self, entry: Entry) -> None:
        """The next line of the ledger."""
        if entry.result is None:
            self._asked[entry.number] = entry.time.timestamp()
        elif isinstance(entry, Finished | Attempt):
            self._trials += isinstance(entry, Finished)
            self._hours += device_hours(entry)
            self._cover(*self._times(entry))

    def spent(self, usd_per_device_hour: float | None = None) -> Spent:
        """The cost of all of them."""
        usd = None if usd_per_device_hour is None else self._hours * usd_per_device_hour
        return Spent(self._trials, self._hours, usd, self._wall_s)

    def _times(self, entry: Finished | Attempt) -> tuple[float, float]:
        """(start, end), counted back from its end: a resumed trial had paused before."""
        end_s, took_s = entry.time.timestamp(), entry.result.timings.wall_s
        if entry.result.provenance.get("clock") == VIRTUAL:
            took_s = end_s - self._asked.get(entry.number, end_s)
        return end_s - took_s, end_s

    def _cover(self, start_s: float, end_s: float) -> None:
        """Adds an interval to those in which a trial ran; most are the latest."""
        first = bisect_left(self._covered, start_s, key=lambda each: each[1])
        last = bisect_right(self._covered, end_s, key=lambda each: each[0])
        over = self._covered[first:last]
        if over:
            start_s, end_s = min(start_s, over[0][0]), max(end_s, over[-1][1])
        self._wall_s += max(0.0, end_s - start_s) - sum(end - start for start, end in over)
        self._covered[first:last] = [(start_s, max(start_s, end_s))]


def device_hours(entry: Finished | Attempt) -> float:
    """Wall time of the trial times its devices, in hours."""
    return entry.result.timings.wall_s * entry.result.config.devices / 3600


def exhausted(budget: Budget, so_far: Spent, trials: int, running: int = 0) -> str:
    """Why no further trial fits the budget; empty if one does. `trials`: the limit on their number.

    Each of the `running` trials and the next one are expected to cost the mean of the finished ones; until one
    has finished, trials start unchecked.
    """
    done = so_far.trials
    if done + running >= trials:
        return f"all {trials} trials are done"
    if not done:
        return ""
    each_h, wall_h = so_far.device_hours / done, so_far.wall_s / 3600
    usd = so_far.usd
    limits = (
        ("device-hours", budget.device_hours, so_far.device_hours, each_h, running + 1),
        ("$", budget.usd, usd, None if usd is None else usd / done, running + 1),
        ("wall hours", budget.wall_h, wall_h, wall_h / done, 1),
    )
    for unit, limit, used, each, more in limits:
        if limit is None or used is None or each is None:
            continue
        if used + more * each > limit * (1 + 1e-9):
            left = f", {running} running" if running else ""
            state = f"{number(used)} of {stated(limit)} {unit} are spent{left}"
            return f"budget: {state}, and a trial takes {number(each, 2)}"
    return ""


def trial_hours(wall_s: float | None, devices: int) -> float | None:
    """Device-hours of a trial on `devices`, from the mean wall time of completed trials; None without it."""
    return None if wall_s is None else wall_s * devices / 3600
