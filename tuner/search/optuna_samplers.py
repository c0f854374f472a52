"""Optuna's samplers. The only file that imports optuna: ask and tell, one objective a tier."""

import warnings
from collections.abc import Sequence
from typing import Any

from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point, offers_unset
from tuner.search.base import Outcome, Suggestion, Values
from tuner.search.space import SearchSpace


class OptunaSampler:
    """A `Sampler` by Optuna. Of a trial it learns one number a tier: the best value inside the tier's limits.

    `objectives`: the tiers' names, all maximised.
    """

    def __init__(self, search: SearchConfig, space: SearchSpace, objectives: Sequence[str]) -> None:
        self._space, self._objectives = space, list(objectives)
        self._study = _optuna_study(search, objectives)

    def suggest(self, running: Sequence[Point]) -> Suggestion:
        """The next point; its token is Optuna's trial."""
        trial = self._study.ask()
        return Suggestion(self._space.sample(trial), trial)

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        """Tells Optuna the known values, or that the trial failed."""
        self._tell(suggestion.token, None if known is None else known.values)

    def begin(self, point: Point) -> None:
        """Nothing is learned of it."""

    def renew(self, asked: int) -> None:
        """Optuna's samplers keep their state."""

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        """Tells Optuna the values; a point that it did not suggest is added as a finished trial."""
        if suggestion is not None:
            self._tell(suggestion.token, outcome.values)
        elif outcome.values is not None:
            self._add(point, outcome.values)

    def next_point(self) -> Point:
        """The next point of a sampler that does not learn: its result is never told."""
        trial = self._study.ask()
        point = self._space.sample(trial)
        self._study.tell(trial, [0.0] * len(self._objectives))
        return point

    def _tell(self, trial: Any, values: Values | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [values[name] for name in self._objectives])

    def _add(self, point: Point, values: Values) -> None:
        """Adds a trial that Optuna did not suggest; a point outside the space is left out."""
        from optuna.trial import FixedTrial, create_trial

        unset = {path: None for path, each in self._space.parameters.items() if offers_unset(each)}
        trial = FixedTrial({**unset, **self._space.fixed, **point})
        try:
            self._space.sample(trial)
        except ValueError:
            return
        frozen = create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=[values[name] for name in self._objectives],
        )
        self._study.add_trial(frozen)


def quasi_random(search: SearchConfig, space: SearchSpace) -> OptunaSampler:
    """A scrambled Sobol sequence over the space, whatever the study's own search."""
    return OptunaSampler(search.model_copy(update={"kind": "qmc"}), space, ["even"])


def _optuna_study(search: SearchConfig, objectives: Sequence[str]) -> Any:
    import optuna
    from optuna import samplers

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed, startup = search.seed, search.startup_trials
    sampler: samplers.BaseSampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.kind:
            case "tpe":
                sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup)
            case "nsga2":
                sampler = samplers.NSGAIISampler(seed=seed, population_size=max(startup, 4))
            case "gp":
                sampler = samplers.GPSampler(seed=seed, n_startup_trials=startup)
            case "qmc":
                sampler = samplers.QMCSampler(
                    seed=seed, scramble=True, warn_independent_sampling=False
                )
            case _:
                sampler = samplers.RandomSampler(seed=seed)
    return optuna.create_study(sampler=sampler, directions=["maximize"] * len(objectives))
