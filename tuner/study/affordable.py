"""What a search's budget buys, and what confirming its best takes on top: before anything runs. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.config.groups.search import Budget

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bought:
    """`trials`: fewest and most that fit. `binding`: the limit that ends the search, by the dear estimate and
    by the cheap one; `trials` if the budget is never reached."""

    trials: tuple[int, int]
    binding: tuple[str, str]


Packed = Callable[[int], float]


def affordable(
    budget: Budget,
    device_s: tuple[Sequence[float], Sequence[float]],
    wall_s: tuple[Packed, Packed],
    usd_per_device_hour: float | None,
) -> Bought:
    """`device_s`: of each trial in order, at least and at most; `wall_s`: count of trials → time for all."""
    cheap, dear = (
        _fits(budget, device_s[i], wall_s[i], usd_per_device_hour) for i in range(len(device_s))
    )
    return Bought((dear[0], cheap[0]), (dear[1], cheap[1]))


def _fits(
    budget: Budget, device_s: Sequence[float], wall_s: Packed, usd_per_device_hour: float | None
) -> tuple[int, str]:
    """The first trial is made whatever it costs: nobody knows that before."""
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
    contenders: int, rounds: tuple[int, int], tiers: int, engines: int, trials: int
) -> tuple[int, int]:
    """Engine starts that confirming takes: one contender and a default in the fewest rounds; at most all the
    contenders of every tier, and all defaults, in every round. `rounds`: fewest and most."""
    if not contenders:
        return 0, 0
    others = min(contenders * tiers, trials)
    return 2 * rounds[0], (others + engines) * rounds[1]
