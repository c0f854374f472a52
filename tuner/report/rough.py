"""Estimates as a person would say them: about 2 h (1.5 to 3.5 h), $40 to 110. Pure."""

import math

from tuner.study.planning.estimate import Range

STEPS = (1, 1.2, 1.5, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
UNITS = ((86400.0, "days", 2.0), (3600.0, "h", 1.25), (60.0, "min", 2.0), (1.0, "s", 0.0))


def about(value: float) -> float:
    """The nearest of a few round figures: 1.2, 40, 3,500."""
    if value <= 0 or not math.isfinite(value):
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    near = min((*STEPS, 10), key=lambda step: abs(math.log(step * power / value)))
    return near * power


def duration_range(seconds: Range) -> str:
    """about 2 h (1.5 to 3.5 h); about 8 min where there is no range to speak of."""
    likely = _duration(seconds.likely)
    if about(seconds.low) == about(seconds.high):
        return f"about {likely}"
    low, high = _duration(seconds.low), _duration(seconds.high)
    if low.partition(" ")[2] == high.partition(" ")[2]:
        low = low.partition(" ")[0]
    return f"about {likely} ({low} to {high})"


def amount_range(amount: Range, prefix: str = "") -> str:
    """about 70 (50 to 110); with a prefix about $180 ($120 to 250)."""
    low, likely, high = (_plain(about(each)) for each in (amount.low, amount.likely, amount.high))
    if low == high:
        return f"about {prefix}{likely}"
    return f"about {prefix}{likely} ({prefix}{low} to {high})"


def count_range(count: Range) -> str:
    """32; 20 to 32."""
    low, high = round(count.low), round(count.high)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _duration(seconds: float) -> str:
    size, unit = next((size, unit) for size, unit, least in UNITS if seconds >= least * size)
    return f"{_plain(about(seconds / size))} {unit}"


def _plain(value: float) -> str:
    return f"{value:,.10g}"
