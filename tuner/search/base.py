"""The terms of every search: proposals, their outcomes, and the sampler that learns from them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.config.groups.space import Point
from tuner.config.trial import TrialConfig
from tuner.trial.pruner import PruningBaseline
from tuner.trial.result import Measured, OperatingPoint

Values = Mapping[str, float]


class ImpossiblePoint(ValueError):
    """The point is no valid configuration. Raised by `resolve`; costs no trial."""


Resolve = Callable[[Point], TrialConfig]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A trial to run. `baseline`: the trial is pruned once it hardly can better it; None measures all of it.

    `avoid`: the nodes where it failed for a reason of theirs: it runs on another one if there is one.
    """

    number: int
    point: Point
    config: TrialConfig
    baseline: PruningBaseline | None = None
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sampler learns of a finished trial.

    `values`: tier → the utility of its best point inside the tier; None of a failed trial. `points`: its curve.
    `failure`: the class of the error; `transient`: the cause was the machine or the network, not the point,
    which may be tried again; `unknown`: it never says anything of the point. `device_s`: device-seconds that it
    took.
    """

    values: Values | None
    points: tuple[OperatingPoint, ...] = ()
    failure: str = ""
    transient: bool = False
    unknown: bool = False
    device_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point that a sampler would try; `token` belongs to the sampler."""

    point: Point
    token: Any = None


class Sampler(Protocol):
    """Chooses points. Each suggestion is answered by `drop` at once, or by `learn` when its trial has finished.

    Given the same seed and the same calls in the same order it suggests the same points.
    """

    def suggest(self, running: Sequence[Point]) -> Suggestion | None:
        """The next point, which may be impossible or known already; None: nothing is left."""

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        """The suggestion is not run: it is impossible or runs already (None), or it was measured before."""

    def begin(self, point: Point) -> None:
        """A trial of the point begins, whoever chose it."""

    def renew(self, asked: int) -> None:
        """Forgets all but what it was taught by `begin` and `learn`. `asked`: trials that were proposed."""

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        """A finished trial; `suggestion` is None if the sampler did not choose it."""


class Source(Protocol):
    """Where trials come from and results go: the study."""

    closed: bool  # whether no more trials are wanted

    def ask(self) -> Proposal | None:
        """The next trial to run; None when there is none, or none more is wanted."""

    def finished(self, number: int, measured: Measured) -> None:
        """The result of a running trial."""

    @property
    def quarantined(self) -> Collection[str]:
        """The nodes that fail whatever runs there: trials run elsewhere if they can."""

    def died(self, number: int, evidence: str, wall_s: float = 0.0, host: str = "") -> None:
        """The slot of a running trial was killed: the trial has no result but this. `host`: its node."""

    def unplaced(self, number: int, evidence: str) -> None:
        """No node of the cluster can hold the trial any more: it is not run."""

    def limit(self, largest: tuple[int, int]) -> None:
        """From now on proposes only layouts that a node with so many (GPUs, CPU cores) holds."""

    def remaining(self) -> int:
        """Trials that have not finished yet."""

    def close(self) -> None:
        """Ask for no more trials."""
