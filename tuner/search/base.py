"""What every search is made of: proposals, what came of them, and the sampler that learns from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.config.groups.space import Point
from tuner.config.trial import TrialConfig
from tuner.trial.pruner import Hurdle
from tuner.trial.result import Measured, OperatingPoint

Values = Mapping[str, float]


class ImpossiblePoint(ValueError):
    """The point is no valid configuration. Raised by `resolve`; costs no trial."""


Resolve = Callable[[Point], TrialConfig]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`hurdle`: what the trial has to get over to be measured to its end."""

    number: int
    point: Point
    config: TrialConfig
    hurdle: Hurdle | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished trial taught: its whole curve, and the best of it in each tier.

    A failed one has no `values`; `failure` is its class, and `chance` says that it had nothing to do with the
    point, which may be tried again. `device_s`: what it cost.
    """

    values: Values | None
    points: tuple[OperatingPoint, ...] = ()
    failure: str = ""
    chance: bool = False
    device_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point that a sampler would try; `token` is the sampler's own."""

    point: Point
    token: Any = None


class Sampler(Protocol):
    """Chooses points. Each suggestion is answered by `drop`, or later by `learn`.

    Given the same seed and the same calls in the same order it suggests the same points.
    """

    def suggest(self, running: Sequence[Point]) -> Suggestion | None:
        """The next point, impossible or known ones included; None: nothing is left."""

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        """It is not run: it is impossible or runs already (None), or it was measured before."""

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        """A finished trial; `suggestion` is None if the sampler did not choose it."""


class Source(Protocol):
    """Where trials come from and results go: the study."""

    def ask(self) -> Proposal | None:
        """The next trial to run; None when there is none, or none more is wanted."""

    def finished(self, number: int, measured: Measured) -> None: ...

    def died(self, number: int, evidence: str) -> None:
        """The slot of a running trial was killed: the trial has no result but this."""

    def remaining(self) -> int: ...

    def close(self) -> None:
        """Ask for no more trials."""
