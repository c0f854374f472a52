"""Optuna's samplers. The only file that imports optuna: ask and tell, one objective a tier."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point, Space
from tuner.search.base import Outcome, Suggestion, Values
from tuner.search.space import sample


class Stock:
    """A scalar for each tier is all that these learn of a trial: the best that can be sold there."""

    def __init__(
        self,
        search: SearchConfig,
        space: Space,
        engines: Sequence[str],
        fixed: Mapping[str, Any],
        objectives: Sequence[str],
    ) -> None:
        self._space, self._engines, self._fixed = space, list(engines), fixed
        self._objectives = list(objectives)
        self._study = _optuna_study(search, objectives)

    def suggest(self, running: Sequence[Point]) -> Suggestion:
        trial = self._study.ask()
        return Suggestion(self._sample(trial), trial)

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        self._tell(suggestion.token, None if known is None else known.values)

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        if suggestion is not None:
            self._tell(suggestion.token, outcome.values)
        elif outcome.values is not None:
            self._add(point, outcome.values)

    def spread(self) -> Point:
        """The next point, and nothing to be learnt of it: for samplers that don't learn."""
        trial = self._study.ask()
        point = self._sample(trial)
        self._study.tell(trial, [0.0] * len(self._objectives))
        return point

    def _sample(self, trial: Any) -> Point:
        return sample(self._space, self._engines, trial, self._fixed)

    def _tell(self, trial: Any, values: Values | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [values[name] for name in self._objectives])

    def _add(self, point: Point, values: Values) -> None:
        """A trial that Optuna did not suggest teaches it all the same, if it lies inside the space."""
        from optuna.trial import FixedTrial, create_trial

        trial = FixedTrial({**self._fixed, **point})
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
