"""Sensitivity of a metric to the inputs of the economics, each at its lower and its upper bound. Pure."""

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
    """One input at both of its bounds, all others as stated, and the metric at each."""

    input: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def width(self) -> float:
        """By how much the input moves the metric."""
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Band:
    """A metric as stated, and its lowest and highest value over all corners of the inputs' bounds.

    At a corner no single input makes it lower (or higher). Which bound of an input does may depend on others,
    as that of PUE on the sign of a margin.
    """

    base: float
    low: float
    high: float
    swings: tuple[Swing, ...]  # widest first


def inputs(economics: Economics) -> dict[str, Estimate]:
    """Dotted path → estimate."""
    return {_name(path): estimate for path, estimate in _estimates(economics, ())}


def uncertain(economics: Economics) -> tuple[Where, ...]:
    """The paths of the estimates whose bounds differ."""
    found = _estimates(economics, ())
    return tuple(path for path, estimate in found if estimate.ends[0] < estimate.ends[1])


def moved(economics: Economics, ends: Mapping[Where, int]) -> Economics:
    """The economics with some inputs at their lower (0) or upper (1) bound."""
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
    """The band of a metric; None where it is unknown as stated, or at a bound."""
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
    """The metric at its highest (1) or lowest (-1) corner.

    Starts from the bounds that are best one by one, then flips single bounds until none improves it.
    """
    ends = {path: int(sign * (swing.at_high - swing.at_low) >= 0) for path, swing in swings}
    reached = figure(moved(economics, ends))
    flipped = True
    while flipped and reached is not None:
        flipped = False
        for path, end in list(ends.items()):
            other = figure(moved(economics, {**ends, path: 1 - end}))
            if other is not None and sign * (other - reached) > TINY * abs(reached):
                ends[path], reached, flipped = 1 - end, other, True
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
