"""The searches that are compared: name → how one is made for a landscape.

`oracle` knows the truth, `random` ignores results; Optuna's samplers see, as usual, one number a tier.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import util
from typing import Any

import numpy as np
import optuna

from tests.benchmarks.search.landscapes import NODE_GPUS, TTFT_LIMIT_S, Floats, Landscape
from tests.benchmarks.search.priors import Prior
from tests.benchmarks.search.replay import Method, Outcome, greedy
from tuner.config.groups.space import Point
from tuner.search.base import Outcome as SearchOutcome
from tuner.search.base import Suggestion
from tuner.search.curve.acquisition import Objective
from tuner.search.curve.candidates import Candidates, Traits
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.prior import interpolated
from tuner.search.curve.sampler import CurveSampler
from tuner.trial.result import OperatingPoint

Factory = Callable[[Landscape, int, int, Prior | None], Method]
"""(landscape, seed, how many at once, prior) → a method."""

SPEED, THROUGHPUT = "interactivity_tok_s_user", "throughput_output_tok_s_device"
FIRST = "ttft_p50_ms"
OBJECTIVE = Objective({SPEED: 1, THROUGHPUT: 1}, {"counted": {FIRST: 1000 * TTFT_LIMIT_S}})
TIERS = (0.1, 0.2, 0.35, 0.5, 0.75)  # of the most tok/s/user there is
STARTUP, POPULATION = 10, 16
REASKS = {"gp": 3}  # its optimum comes again and again, and each time costs a fit
ORACLE_TRIALS = 24


class Oracle:
    """Takes what adds most, and again what had a transient failure."""

    def __init__(self, landscape: Landscape, *_: object) -> None:
        self._left = list(_best(landscape))
        self._again: list[int] = []

    def ask(self) -> int:
        if self._again:
            return self._again.pop()
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def tell(self, index: int, outcome: Outcome) -> None:
        if outcome.status == "flake":
            self._again.append(index)


@cache
def _best(landscape: Landscape) -> tuple[int, ...]:
    return tuple(greedy(landscape, ORACLE_TRIALS))


class Random:
    """Whole ladders, in any order, none twice."""

    def __init__(self, landscape: Landscape, seed: int, *_: object) -> None:
        self._rows = iter(np.random.default_rng([seed, 1]).permutation(len(landscape)).tolist())

    def ask(self) -> int:
        return int(next(self._rows))

    def tell(self, index: int, outcome: Outcome) -> None:
        pass


class Optuna:
    """Ask and tell. Impossible points and those measured before cost nothing, as in the product."""

    def __init__(self, kind: str, landscape: Landscape, seed: int, batch: int, _: object) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._land, self._reasks = landscape, REASKS.get(kind, 40)
        self._rng = np.random.default_rng([seed, 2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = _sampler(kind, seed, batch)
        self._study = optuna.create_study(directions=["maximize"] * len(TIERS), sampler=sampler)
        fastest = float(np.nanmax(np.where(landscape.counted, landscape.itv, np.nan)))
        self._tiers = [share * fastest for share in TIERS]
        self._known: dict[int, list[float]] = {}
        self._running: dict[int, Any] = {}

    def ask(self) -> int:
        land = self._land
        for _ in range(self._reasks):
            trial = self._study.ask()
            point = land.space.sample(trial)
            index = land.index_of(point) if land.space.possible(point) else None
            if index is not None and index in self._known:
                self._study.tell(trial, self._known[index])
            elif index is None or index in self._running:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._running[index] = trial
                return index
        while (row := int(self._rng.integers(len(land)))) in self._known or row in self._running:
            pass
        self._running[row] = None
        return row

    def tell(self, index: int, outcome: Outcome) -> None:
        trial = self._running.pop(index)
        if outcome.status == "flake":
            if trial is not None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        values = self._values(outcome)
        self._known[index] = values
        if trial is not None:
            self._study.tell(trial, values)

    def _values(self, outcome: Outcome) -> list[float]:
        """The best throughput in each tier; 0 where there is none."""
        itv = np.where(outcome.counted, outcome.itv, 0.0)
        return [
            float(np.max(outcome.thr, where=itv >= tier, initial=0.0))
            if (itv >= tier).any()
            else 0.0
            for tier in self._tiers
        ]


def _sampler(kind: str, seed: int, batch: int) -> optuna.samplers.BaseSampler:
    samplers = optuna.samplers
    match kind:
        case "tpe":
            return samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=STARTUP, constant_liar=batch > 1
            )
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        case "qmc":
            return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        case _:
            return samplers.GPSampler(
                seed=seed, n_startup_trials=STARTUP, deterministic_objective=False
            )


class Curves:
    """The product's own search, as a study runs it: a transient failure may be tried once more."""

    def __init__(self, landscape: Landscape, seed: int, batch: int, prior: Prior | None) -> None:
        self._land = landscape
        candidates = Candidates(Encoder(landscape.space), self._traits)
        candidates.add(landscape.points)
        predicted = None if prior is None else _Predicted(landscape, prior)
        self._sampler = CurveSampler(OBJECTIVE, candidates, seed, prior=predicted)
        self._running: dict[int, Suggestion] = {}

    def ask(self) -> int:
        running = [each.point for each in self._running.values()]
        suggestion = self._sampler.suggest(running)
        assert suggestion is not None
        row = self._land.index_of(suggestion.point)
        assert row is not None
        self._running[row] = suggestion
        return row

    def tell(self, index: int, outcome: Outcome) -> None:
        suggestion = self._running.pop(index)
        if outcome.status != "measured":
            flake = outcome.status == "flake"
            failed = SearchOutcome(None, failure=outcome.status, transient=flake)
            self._sampler.learn(suggestion.point, suggestion, failed)
            return
        share = self._land.gpus[index] / NODE_GPUS
        points = tuple(
            OperatingPoint(
                level,
                f"closed {load * share:g}",
                {SPEED: itv, THROUGHPUT: thr, FIRST: 1000 * ttft_s},
                invalid_because=() if ok else ("queued",),
                load_value=float(f"{load * share:g}"),
            )
            for level, (load, itv, thr, ttft_s, ok) in enumerate(
                zip(
                    self._land.loads,
                    outcome.itv.tolist(),
                    outcome.thr.tolist(),
                    outcome.ttft_s.tolist(),
                    outcome.ok.tolist(),
                    strict=True,
                )
            )
        )
        self._sampler.learn(suggestion.point, suggestion, SearchOutcome({}, points))

    def _traits(self, point: Point) -> Traits:
        """As `tuner.search.factory.traits_of`: the ladder's ends, and what the schedulers admit."""
        land, row = self._land, self._land.index_of(point)
        assert row is not None
        gpus = int(land.gpus[row])
        ranks = int(point.get("topology.data_parallel", 1)) * NODE_GPUS / gpus
        lowest, highest = max(min(land.loads), ranks), float(max(land.loads))
        if (admitted := point.get("knobs.max_num_seqs")) is not None:
            highest = max(lowest, min(highest, ranks * int(admitted)))
        return Traits(gpus, lowest / NODE_GPUS, highest / NODE_GPUS)


class _Predicted:
    """A prior of the benchmark under the names of the search."""

    def __init__(self, landscape: Landscape, prior: Prior) -> None:
        self._land = landscape
        logs = np.log(np.stack([prior.itv, prior.thr, 1000 * prior.ttft_s], -1))
        self._logs = {SPEED: logs[..., 0], THROUGHPUT: logs[..., 1], FIRST: logs[..., 2]}

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        rows = [self._land.index_of(point) for point in points]
        own = np.log2(np.array(self._land.loads) / NODE_GPUS)
        curves = np.stack([self._logs[metric][rows] for metric in metrics], -1)
        return np.array([interpolated(each, own, loads) for each in curves])


METHODS: dict[str, Factory] = {
    "oracle": Oracle,
    "random": Random,
    "curve": Curves,
    **{f"optuna-{kind}": partial(Optuna, kind) for kind in ("tpe", "nsga2", "qmc")},
}
if util.find_spec("torch"):
    METHODS["optuna-gp"] = partial(Optuna, "gp")

PRIORS: Mapping[str, float] = {"prior80": 0.8, "prior50": 0.5}
"""After a `+`: the share of pairs that the prior orders right."""


def parsed(spec: str) -> tuple[Factory, float | None, int]:
    """`name[+prior80|+prior50][x4]`: the factory, the prior's share, how many trials at once."""
    name, cross, batch = spec.rpartition("x")
    if not cross or not batch.isdigit():
        name, batch = spec, "1"
    name, _, prior = name.partition("+")
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; there are {', '.join(METHODS)}")
    if prior and prior not in PRIORS:
        raise ValueError(f"no prior {prior!r}; there are {', '.join(PRIORS)}")
    return METHODS[name], PRIORS[prior] if prior else None, int(batch)
