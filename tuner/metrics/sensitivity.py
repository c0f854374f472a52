"""What a figure becomes when each input of the economics is as low, or as high, as it may be. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tuner.config.groups.economics import Economics
from tuner.config.groups.hardware import Estimate

Figure = Callable[[Economics], float | None]
Where = tuple[str | int, ...]
TINY = 1e-12  # of a figure: a difference below it is rounding


@dataclass(frozen=True, slots=True)
class Swing:
    """One input at both of its ends, all others as stated: what the figure becomes."""

    input: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def width(self) -> float:
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Band:
    """A figure as stated, and at its worst and best corner: all inputs at once at the end that hurts or helps.

    At a corner no single input makes it worse (or better): which end hurts may hang on the others, as PUE does
    with a margin's sign.
    """

    base: float
    low: float
    high: float
    swings: tuple[Swing, ...]  # the widest first


def inputs(economics: Economics) -> dict[str, Estimate]:
    """Every estimate, by its dotted path."""
    return {_name(path): estimate for path, estimate in _estimates(economics, ())}


def uncertain(economics: Economics) -> tuple[Where, ...]:
    """The paths of the estimates that have room between their ends."""
    found = _estimates(economics, ())
    return tuple(path for path, estimate in found if estimate.ends[0] < estimate.ends[1])


def moved(economics: Economics, ends: Mapping[Where, int]) -> Economics:
    """The same with some inputs at their low (0) or high (1) end."""
    data = economics.model_dump()
    for path, end in ends.items():
        estimate = _at(economics, path)
        assert isinstance(estimate, Estimate)
        inner = data
        for part in path:
            inner = inner[part]  # type: ignore[index]
        inner["value"] = estimate.ends[end]
    return Economics.model_validate(data)


def band(economics: Economics, figure: Figure) -> Band | None:
    """None where the figure is not known as stated, or at an end."""
    base, paths = figure(economics), uncertain(economics)
    swings: list[tuple[Where, Swing]] = []
    for path in paths:
        low, high = (figure(moved(economics, {path: end})) for end in (0, 1))
        if low is None or high is None:
            return None
        estimate = _at(economics, path)
        assert isinstance(estimate, Estimate)
        swings.append((path, Swing(_name(path), *estimate.ends, low, high)))
    worst, best = (_corner(economics, figure, swings, sign) for sign in (-1, 1))
    if base is None or worst is None or best is None:
        return None
    widest = sorted((swing for _, swing in swings if swing.width), key=lambda s: -s.width)
    return Band(base, min(base, worst), max(base, best), tuple(widest))


def _corner(
    economics: Economics, figure: Figure, swings: Sequence[tuple[Where, Swing]], sign: int
) -> float | None:
    """From the ends that one by one are best (1) or worst (-1), input by input until none betters it."""
    ends = {path: int(sign * (swing.at_high - swing.at_low) >= 0) for path, swing in swings}
    reached = figure(moved(economics, ends))
    turned = True
    while turned and reached is not None:
        turned = False
        for path, end in list(ends.items()):
            other = figure(moved(economics, {**ends, path: 1 - end}))
            if other is not None and sign * (other - reached) > TINY * abs(reached):
                ends[path], reached, turned = 1 - end, other, True
    return reached


def _estimates(value: Any, path: Where) -> Iterator[tuple[Where, Estimate]]:
    if isinstance(value, Estimate):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _estimates(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _estimates(inner, (*path, key))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _estimates(inner, (*path, index))


def _at(economics: Economics, path: Where) -> Any:
    value: Any = economics
    for part in path:
        value = getattr(value, str(part)) if isinstance(value, BaseModel) else value[part]
    return value


def _name(path: Where) -> str:
    return ".".join(map(str, path))
