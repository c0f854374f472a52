"""A study's budget: what its trials cost so far, what it still affords, and what to expect beforehand. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tuner.config.groups.search import Budget
from tuner.metrics.notation import number, stated
from tuner.results.ledger import Entry, Finished
from tuner.trial.result import VIRTUAL

Packed = Callable[[int], float]  # number of trials → seconds that all of them take


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of finished `trials`. `usd`: None without a price. `wall_s`: seconds in which any trial ran."""

    trials: int
    device_hours: float
    usd: float | None
    wall_s: float


def spent(entries: Sequence[Entry], usd_per_device_hour: float | None = None) -> Spent:
    """The cost of a ledger's entries, repeats included. Device-hours of the virtual clock are virtual."""
    done = [entry for entry in entries if isinstance(entry, Finished)]
    hours = sum(device_hours(entry) for entry in done)
    usd = None if usd_per_device_hour is None else hours * usd_per_device_hour
    return Spent(len(done), hours, usd, _covered(_times(entries)))


def device_hours(entry: Finished) -> float:
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


def trial_hours(walls_s: Sequence[float], devices: int) -> float | None:
    """Device-hours of a trial on `devices`, from the mean wall time of completed trials; None without any."""
    return sum(walls_s) / len(walls_s) * devices / 3600 if walls_s else None


def _times(entries: Sequence[Entry]) -> Iterator[tuple[float, float]]:
    """(start, end) of each finished trial, counted back from its end: a resumed trial had paused before."""
    asked = {entry.number: entry.time for entry in entries if entry.result is None}
    for entry in entries:
        if isinstance(entry, Finished):
            end_s = entry.time.timestamp()
            took_s = entry.result.timings.wall_s
            if entry.result.provenance.get("clock") == VIRTUAL:
                took_s = end_s - asked.get(entry.number, entry.time).timestamp()
            yield end_s - took_s, end_s


def _covered(times: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one interval."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(times):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


@dataclass(frozen=True, slots=True)
class Affordable:
    """`trials`: fewest and most that fit. `binding`: the limit that ends the search under the high and the low
    cost estimate; `trials` if the budget is never reached."""

    trials: tuple[int, int]
    binding: tuple[str, str]


def affordable(
    budget: Budget,
    device_s: tuple[Sequence[float], Sequence[float]],
    wall_s: tuple[Packed, Packed],
    usd_per_device_hour: float | None,
) -> Affordable:
    """What the budget buys. `device_s`: per trial in order, (least, most); `wall_s`: trials → total time."""
    low, high = (
        _fits(budget, device_s[i], wall_s[i], usd_per_device_hour) for i in range(len(device_s))
    )
    return Affordable((high[0], low[0]), (high[1], low[1]))


def _fits(
    budget: Budget, device_s: Sequence[float], wall_s: Packed, usd_per_device_hour: float | None
) -> tuple[int, str]:
    """Trials that fit, and the binding limit. The first trial always runs: its cost is not known before."""
    found, used_s = (len(device_s), "trials"), 0.0
    for done, each_s in enumerate(device_s):
        used_s += each_s
        hours = used_s / 3600
        usd = None if usd_per_device_hour is None else hours * usd_per_device_hour
        wall_h = 0.0 if budget.wall_h is None else wall_s(done + 1) / 3600
        over = (
            ("device_hours", budget.device_hours, hours),
            ("usd", budget.usd, usd),
            ("wall_h", budget.wall_h, wall_h),
        )
        for name, limit, needed in over:
            if limit is not None and needed is not None and needed > limit:
                return max(done, 1), name
    return found


def confirmation_starts(
    candidates: int, rounds: tuple[int, int], tiers: int, engines: int, trials: int
) -> tuple[int, int]:
    """Engine starts of the confirmation, (least, most): one candidate and a default in the fewest rounds; all
    candidates of every tier and all defaults in every round. `rounds`: fewest and most."""
    if not candidates:
        return 0, 0
    others = min(candidates * tiers, trials)
    return 2 * rounds[0], (others + engines) * rounds[1]
