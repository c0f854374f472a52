"""What the trials of a study took so far, and whether one more is within its budget, or worth it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tuner.config.groups.search import Budget, StopRule
from tuner.results.ledger import Entry, Finished
from tuner.trial.result import VIRTUAL


@dataclass(frozen=True, slots=True)
class Spent:
    """`trials`: finished ones; the rest is theirs. `usd`: None without a price. `wall_s`: in which any ran."""

    trials: int
    device_hours: float
    usd: float | None
    wall_s: float


def spent(entries: Sequence[Entry], usd_per_device_hour: float | None = None) -> Spent:
    """Of these lines of a ledger, the repeats among them too. On a virtual clock, device-hours are virtual."""
    done = [entry for entry in entries if isinstance(entry, Finished)]
    hours = sum(device_hours(entry) for entry in done)
    usd = None if usd_per_device_hour is None else hours * usd_per_device_hour
    return Spent(len(done), hours, usd, _covered(_times(entries)))


def device_hours(entry: Finished) -> float:
    return entry.result.timings.wall_s * entry.result.config.devices / 3600


def exhausted(budget: Budget, so_far: Spent, trials: int, running: int = 0) -> str:
    """Why no further trial fits; empty if one does. `trials`: the most there may be; `running`: not finished.

    A trial that runs, and the next, are taken to cost what the finished ones did by the mean; the first
    trials are begun on trust.
    """
    done = so_far.trials
    if done + running >= trials:
        return f"all {trials} trials are made"
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
            told = f"{used:.3g} of {limit:g} {unit} are spent{left}"
            return f"budget: {told}, and a trial takes {each:.2g}"
    return ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Whether going on is still worth it: what `StopRule` looks at, ask by ask."""

    rule: StopRule
    low: int = 0  # asks in a row of which too little was expected

    def after(self, gain: float | None, trial_device_hours: float | None) -> "Doubt":
        """`gain`: the share that the trial asked for is expected to add; None: nobody knows, so it is made."""
        little = bool(too_little(self.rule, gain, trial_device_hours))
        return Doubt(self.rule, self.low + 1 if little else 0)

    @property
    def ends(self) -> bool:
        return self.low >= self.rule.patience


def too_little(rule: StopRule, gain: float | None, trial_device_hours: float | None) -> str:
    """Why a trial is not worth it; empty if it is, or if that is not known."""
    if gain is None:
        return ""
    if rule.gain is not None and gain < rule.gain:
        expected = f"the next trial is expected to add {gain:.2%}"
        return f"{expected} (search.stop.gain {rule.gain:.2%})"
    if rule.payback_devices is None or rule.payback_days is None or trial_device_hours is None:
        return ""
    saved = gain * rule.payback_devices * rule.payback_days * 24
    if saved >= trial_device_hours:
        return ""
    return (
        f"the next trial is expected to add {gain:.2%}, {saved:.3g} device-hours of "
        f"{rule.payback_devices} devices in {rule.payback_days:g} days, and takes "
        f"{trial_device_hours:.3g} (search.stop.payback_devices, payback_days)"
    )


def trial_hours(walls_s: Sequence[float], devices: int) -> float | None:
    """Device-hours of a trial on so many devices, by the mean of those that completed."""
    return sum(walls_s) / len(walls_s) * devices / 3600 if walls_s else None


def _times(entries: Sequence[Entry]) -> Iterator[tuple[float, float]]:
    """When each finished trial ran. From its end backwards: one that was begun again had paused."""
    asked = {entry.number: entry.time for entry in entries if entry.result is None}
    for entry in entries:
        if isinstance(entry, Finished):
            end_s = entry.time.timestamp()
            took_s = entry.result.timings.wall_s
            if entry.result.provenance.get("clock") == VIRTUAL:
                took_s = end_s - asked.get(entry.number, entry.time).timestamp()
            yield end_s - took_s, end_s


def _covered(times: Iterable[tuple[float, float]]) -> float:
    """Seconds in at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(times):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
