"""What a study's configuration makes of its search: space, objective, candidates, prior, sampler, proposer."""

import random
from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from loadgen import Adaptive, Closed, Constant, Gamma, Poisson, Workload
from serving.engines import ENGINES
from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import default_points, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.search.base import ImpossiblePoint, Sampler
from tuner.search.curve.acquisition import Objective
from tuner.search.curve.candidates import Candidates, Traits, TraitsOf
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.prior import Prior
from tuner.search.curve.sampler import CurveSampler
from tuner.search.even_points import even_points
from tuner.search.optuna_samplers import OptunaSampler
from tuner.search.priors.factory import prior_of
from tuner.search.priors.recorder import PredictionRecorder
from tuner.search.proposer import Proposer
from tuner.search.space import SearchSpace
from tuner.trial.behaviour import identity
from tuner.trial.duration import OVERHEAD_S, load_s

# Candidates that a search on curves chooses among; and where a prior has to predict each of them.
MAX_CANDIDATES, MAX_PREDICTED = 6000, 2500
DRAWS = 4 * MAX_CANDIDATES
HOPELESS_DRAWS = 2000  # without a possible point, after which none is expected
MAX_SEQUENCES = "max_sequences"  # the meaning of the knob that bounds what an engine admits


class SearchSetup:
    """The parts of a study's search. Each is built on first use and once, whoever needs it: the plan of the
    trials, the study, the record of predictions.

    `largest`: the most (GPUs, CPU cores) of one node that a trial may take; None: any.
    """

    def __init__(self, config: StudyConfig, largest: tuple[int, int] | None = None) -> None:
        self.config, self._largest = config, largest

    @cached_property
    def space(self) -> SearchSpace:
        """The space that the study searches."""
        return SearchSpace.of(self.config, self._largest)

    @cached_property
    def encoder(self) -> Encoder:
        """Points of the space as vectors."""
        return Encoder(self.space, meanings_of(self.config))

    @cached_property
    def prior(self) -> Prior | None:
        """Raises ConfigError for a prior that is unavailable."""
        return prior_of(self.config, self.encoder)

    @cached_property
    def candidates(self) -> Candidates:
        """What a search on curves chooses among: the whole of a small space, an even sample of a large one.

        The same for the same study; a sampler takes a copy. Raises ConfigError where the workload has no load
        levels.
        """
        traits = traits_of(self.config, self.space)
        most = MAX_CANDIDATES if self.config.search.prior.kind == "none" else MAX_PREDICTED
        candidates = Candidates(self.encoder, traits)
        candidates.add(self._points(most))
        return candidates

    def proposer(self) -> Proposer:
        """A new proposer, at the beginning of the search."""
        search, defaults = self.config.search, default_points(self.config)
        return Proposer(search, self.space, defaults, self._resolve, self.sampler(), identity)

    def sampler(self) -> Sampler | None:
        """A new sampler; None for a search whose points are all listed."""
        search = self.config.search
        match search.kind:
            case "list" | "grid":
                return None
            case "curve":
                price = 1.0 if search.cost == "device_hours" else 0.0
                return CurveSampler(
                    objective_of(self.config),
                    self.candidates.copied(),
                    search.seed,
                    startup_of(self.config),
                    price,
                    self.prior,
                )
            case _:
                return OptunaSampler(search, self.space, list(self.config.slo.tiers))

    def recorder(self) -> PredictionRecorder:
        """Records the predictions of this search's prior."""
        return PredictionRecorder(self.config, self.prior)

    def _resolve(self, point: Point) -> TrialConfig:
        try:
            return trial_config(self.config, point)
        except ConfigError as error:
            raise ImpossiblePoint(str(error)) from error

    def _points(self, most: int) -> list[Point]:
        points = self.space.all_points(DRAWS)
        if points is None:
            return list(islice(self._even_points(), most))
        if len(points) > most:
            return random.Random(self.config.search.seed).sample(points, most)
        return points

    def _even_points(self) -> Iterator[Point]:
        found = 0
        for drawn, point in enumerate(even_points(self.space, self.config.search.seed)):
            if drawn == (DRAWS if found else HOPELESS_DRAWS):
                return
            if self.space.possible(point):
                found += 1
                yield point


def startup_of(config: StudyConfig) -> int:
    """Trials with a curve, default ones among them, before the surrogate decides."""
    return max(config.search.startup_trials, len(config.engine))


def objective_of(config: StudyConfig) -> Objective:
    """Error rates are no part of it: a level with too many errors is left out of the curve."""
    tiers = {
        name: {metric: limit for metric, limit in tier.limits().items() if metric != "error_rate"}
        for name, tier in config.slo.tiers.items()
    }
    if config.search.goal == "tiers":
        target = config.objective.target
        return Objective({target.metric: _sign(target.direction)}, tiers, by_tier=True)
    axes = {axis.metric: _sign(axis.direction) for axis in config.objective.axes}
    return Objective(axes, tiers)


def meanings_of(config: StudyConfig) -> dict[str, str]:
    """Path of a knob → what it means in all engines' terms."""
    return {
        f"{ENGINE}.{name}.{knob}": meaning
        for name, engine in config.engine.items()
        for knob, meaning in ENGINES[engine.kind].meanings.items()
    }


def traits_of(config: StudyConfig, space: SearchSpace) -> TraitsOf:
    """Of any point: its devices, the ends of its curve, what its trial takes. Raises ConfigError where the
    workload has no load levels."""
    lowest, highest = load_range(config.workload)
    closed = isinstance(config.workload.arrival, Closed | Adaptive)
    load = sum(load_s(config.workload)) / 2
    admits = {path: what for path, what in meanings_of(config).items() if what == MAX_SEQUENCES}

    def traits(point: Point) -> Traits:
        layout = space.layout(point)
        engine = space.engine_of(point)
        prefix = f"{ENGINE}.{engine}."
        known = [point.get(p, space.fixed.get(p)) for p in admits if p.startswith(prefix)]
        bound = next((float(v) for v in known if isinstance(v, int)), None)
        most = highest
        if closed and bound is not None:
            most = max(lowest, min(highest, bound * layout.data_parallel * layout.replicas))
        start_s = config.engine[engine].typical_start_s
        device_s = (OVERHEAD_S + start_s + load) * layout.devices
        return Traits(layout.devices, lowest / layout.devices, most / layout.devices, device_s)

    return traits


def load_range(workload: Workload) -> tuple[float, float]:
    """Lowest and highest load, users or requests per second. Raises ConfigError for a load without levels."""
    match workload.arrival:
        case Closed(concurrency=steps):
            return float(min(steps)), float(max(steps))
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return min(rates), max(rates)
        case Adaptive(lowest=lowest, highest=highest):
            return lowest, highest
        case other:
            raise ConfigError(
                f"search: curve searches over load levels, and the arrival {other.kind} has none: "
                "use search=tpe, or an arrival with levels (closed, poisson, adaptive …)"
            )


def _sign(direction: str) -> int:
    return 1 if direction == "max" else -1
