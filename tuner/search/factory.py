"""The search on curves, made for a study: what it is after, and what it may choose among."""

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from loadgen import Adaptive, Closed, Constant, Gamma, Poisson, Workload
from serving.engines import ENGINES
from serving.topology import Topology
from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import fixed_values
from tuner.config.study import StudyConfig
from tuner.search.curve.acquisition import Goal
from tuner.search.curve.candidates import Pool, Traits, TraitsOf
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.sampler import CurveSampler
from tuner.search.optuna_samplers import Stock
from tuner.search.priors.factory import prior_of
from tuner.search.space import engine_of, enumerate_points, size, violated
from tuner.trial.duration import OVERHEAD_S, load_s

POOL, FORETOLD = 6000, 2500  # points that a search chooses among; and where each has to be foretold
DRAWS = 4 * POOL
MAX_SEQUENCES = "max_sequences"  # the meaning of the knob that bounds what an engine admits


def curve_sampler(config: StudyConfig) -> CurveSampler:
    """Raises ConfigError where the workload has no loads that a curve could go over."""
    lowest_highest(config.workload)
    search = config.search
    price = 1.0 if search.cost == "device_hours" else 0.0
    pool = pool_of(config)
    prior = prior_of(config, meanings_of(config))
    return CurveSampler(goal_of(config), pool, search.seed, startup_of(config), price, prior)


def startup_of(config: StudyConfig) -> int:
    """Trials with a curve, default ones among them, before curves decide."""
    return max(config.search.startup_trials, len(config.engine))


def goal_of(config: StudyConfig) -> Goal:
    """Error rates are no part of it: a level with errors is left out of the curve."""
    tiers = {
        name: {metric: limit for metric, limit in tier.limits().items() if metric != "error_rate"}
        for name, tier in config.slo.tiers.items()
    }
    if config.search.goal == "tiers":
        sold = config.objective.sold
        return Goal({sold.metric: _sign(sold.direction)}, tiers, by_tier=True)
    axes = {axis.metric: _sign(axis.direction) for axis in config.objective.axes}
    return Goal(axes, tiers)


def pool_of(config: StudyConfig) -> Pool:
    """Every possible point of a small space, an even sample of a large one; the same for the same study."""
    engines, fixed = list(config.engine), fixed_values(config)
    encoder = Encoder(config.space, engines, fixed, meanings_of(config))
    pool = Pool(encoder, traits_of(config))
    space = config.space
    most = POOL if config.search.prior.kind == "none" else FORETOLD
    if size(space, engines, fixed, limit=DRAWS) is not None:
        points: list[Point] = list(enumerate_points(space, engines, fixed))
        if len(points) > most:
            points = random.Random(config.search.seed).sample(points, most)
    else:
        points = list(islice(_even(config, fixed), most))
    pool.add(points)
    return pool


def meanings_of(config: StudyConfig) -> dict[str, str]:
    """Path of a knob → what it means in all engines' terms."""
    return {
        f"{ENGINE}.{name}.{knob}": meaning
        for name, engine in config.engine.items()
        for knob, meaning in ENGINES[engine.kind].meanings.items()
    }


def traits_of(config: StudyConfig) -> TraitsOf:
    fixed, engines = fixed_values(config), list(config.engine)
    lowest, highest = lowest_highest(config.workload)
    closed = isinstance(config.workload.arrival, Closed | Adaptive)
    load = sum(load_s(config.workload)) / 2
    topology = config.topology.model_dump()
    admits = {path: what for path, what in meanings_of(config).items() if what == MAX_SEQUENCES}

    def traits(point: Point) -> Traits:
        chosen = {
            p.removeprefix("topology."): v for p, v in point.items() if p.startswith("topology.")
        }
        laid = Topology.model_validate({**topology, **chosen})
        engine = engine_of(point, engines)
        known = [point.get(p, fixed.get(p)) for p in admits if p.startswith(f"{ENGINE}.{engine}.")]
        bound = next((float(v) for v in known if isinstance(v, int)), None)
        most = highest
        if closed and bound is not None:
            most = max(lowest, min(highest, bound * laid.data_parallel))
        start_s = config.engine[engine].typical_start_s
        seconds = (OVERHEAD_S + start_s + load) * laid.devices
        return Traits(laid.devices, lowest / laid.devices, most / laid.devices, seconds)

    return traits


def lowest_highest(workload: Workload) -> tuple[float, float]:
    """Users or requests per second. Raises ConfigError for a load that has no levels."""
    match workload.arrival:
        case Closed(concurrency=steps):
            return float(min(steps)), float(max(steps))
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return min(rates), max(rates)
        case Adaptive(lowest=lowest, highest=highest):
            return lowest, highest
        case other:
            raise ConfigError(
                f"search: curves go over load levels, and the arrival {other.kind} has none: "
                "use search=tpe, or an arrival with levels (closed, poisson, adaptive …)"
            )


def _even(config: StudyConfig, fixed: Mapping[str, Any]) -> Iterator[Point]:
    engines = list(config.engine)
    source = Stock(
        config.search.model_copy(update={"kind": "qmc"}), config.space, engines, fixed, ["even"]
    )
    for _ in range(DRAWS):
        point = source.spread()
        if not violated(config.space, engines, point, fixed):
            yield point


def _sign(direction: str) -> int:
    return 1 if direction == "max" else -1
