"""What to try next. The only file that imports optuna: ask and tell, seeded, replayable from a ledger."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from serving.topology import Strict
from tuner.space import Point, Space, enumerate_points, sample, violated
from tuner.trial import Measured, TrialConfig

Positive = Annotated[int, Field(ge=1)]

REASKS = 64  # suggestions thrown away (impossible, or measured) before the space is sampled evenly
DRAWS = 2000  # even draws without a new point after which the space counts as exhausted


class SearchConfig(Strict):
    """`trials` counts finished trials, failures included. `points`: the list of kind `list`."""

    kind: Literal["list", "grid", "random", "qmc", "tpe", "nsga2"] = "tpe"
    trials: Positive = 10
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Positive = 4
    default_first: bool = True
    points: tuple[dict[str, Any], ...] = ()


class ImpossiblePoint(ValueError):
    """The point is no valid configuration. Raised by `resolve`; costs no trial."""


@dataclass(frozen=True, slots=True)
class Proposal:
    number: int
    point: Point
    config: TrialConfig


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


Resolve = Callable[[Point], TrialConfig]
Values = Mapping[str, float]


class Proposer:
    """Proposes each configuration at most once, default configurations first.

    `defaults`: engine → the point that leaves everything as configured. `fixed`: what the study fixes, by path.
    `resolve` turns a point into a configuration or raises `ImpossiblePoint`. Given the same seed and the
    same order of asks and tells it proposes the same points, which is what makes a study resumable.
    """

    def __init__(
        self,
        search: SearchConfig,
        space: Space,
        defaults: Mapping[str, Point],
        fixed: Mapping[str, Any],
        resolve: Resolve,
        objectives: Sequence[str],
    ) -> None:
        self._space, self._engines, self._resolve = space, list(defaults), resolve
        self._fixed_values = fixed
        self._objectives = list(objectives)
        self._seen: dict[str, Values | None] = {}
        self._live: dict[int, tuple[Proposal, Any]] = {}
        self._asked = 0
        self._listed = _listed(search, space, defaults, fixed)
        self._study = None if search.kind in ("list", "grid") else _optuna_study(search, objectives)
        self._startup = search.startup_trials if search.kind in ("tpe", "nsga2") else 0
        self._even = _optuna_study(search.model_copy(update={"kind": "qmc"}), objectives)

    def ask(self) -> Proposal | None:
        """The next configuration; None when none is left to try."""
        for point in self._listed:
            if proposal := self._accept(point, None):
                return proposal
        if self._study is None:
            return None
        if self._startup:
            self._startup -= 1
        else:
            for _ in range(REASKS):
                trial = self._study.ask()
                if proposal := self._accept(self._sample(trial), trial):
                    return proposal
        for _ in range(DRAWS):
            if proposal := self._accept(self._spread(), None):
                return proposal
        return None

    def tell(self, number: int, values: Values | None) -> None:
        """The best throughput per tier of a finished trial; None for a failed one."""
        proposal, trial = self._live.pop(number)
        self._seen[proposal.config.fingerprint] = values
        if trial is not None:
            self._tell_optuna(trial, values)
        elif values is not None:
            self._add_to_optuna(proposal.point, values)

    def _spread(self) -> Point:
        """The next point of a Sobol sequence: even over the space, where chance leaves gaps."""
        trial = self._even.ask()
        point = self._sample(trial)
        self._even.tell(
            trial, [0.0] * len(self._objectives)
        )  # told at once: no value matters to it
        return point

    def _sample(self, trial: Any) -> Point:
        return sample(self._space, self._engines, trial, self._fixed_values)

    def _accept(self, point: Point, trial: Any) -> Proposal | None:
        config = None
        if not violated(self._space, self._engines, point, self._fixed_values):
            try:
                config = self._resolve(point)
            except ImpossiblePoint:
                config = None
        if config is None or config.fingerprint in self._seen:
            if trial is not None:
                known = None if config is None else self._seen[config.fingerprint]
                self._tell_optuna(trial, known)
            return None
        number, self._asked = self._asked, self._asked + 1
        self._seen[config.fingerprint] = None
        proposal = Proposal(number, point, config)
        self._live[number] = (proposal, trial)
        return proposal

    def _tell_optuna(self, trial: Any, values: Values | None) -> None:
        from optuna.trial import TrialState

        assert self._study is not None
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [values[name] for name in self._objectives])

    def _add_to_optuna(self, point: Point, values: Values) -> None:
        """A trial that Optuna did not suggest teaches it all the same, if it lies inside the space."""
        if self._study is None:
            return
        from optuna.trial import FixedTrial, create_trial

        trial = FixedTrial({**self._fixed_values, **point})
        try:
            self._sample(trial)
        except ValueError:
            return
        frozen = create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=[values[name] for name in self._objectives],
        )
        self._study.add_trial(frozen)


def _listed(
    search: SearchConfig, space: Space, defaults: Mapping[str, Point], fixed: Mapping[str, Any]
) -> Iterator[Point]:
    """The points that no sampler chooses, in order."""
    if search.default_first:
        yield from defaults.values()
    yield from search.points
    if search.kind == "grid":
        grid = list(enumerate_points(space, list(defaults), fixed))
        random.Random(search.seed).shuffle(grid)
        yield from grid


def _optuna_study(search: SearchConfig, objectives: Sequence[str]) -> Any:
    import optuna
    from optuna import samplers

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed, startup = search.seed, search.startup_trials
    sampler: samplers.BaseSampler
    if search.kind == "tpe":
        sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup)
    elif search.kind == "nsga2":
        sampler = samplers.NSGAIISampler(seed=seed, population_size=max(startup, 4))
    elif search.kind == "qmc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    else:
        sampler = samplers.RandomSampler(seed=seed)
    return optuna.create_study(sampler=sampler, directions=["maximize"] * len(objectives))
