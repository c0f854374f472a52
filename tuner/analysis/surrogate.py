"""A surrogate model of a finished search of any kind: estimates of configurations that it did not try. Pure.

The model is that of the search on curves (`tuner.search.curve`): a Gaussian process over configuration and
load. The value of a configuration in a tier is the highest utility that its estimated curve reaches inside the
tier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from serving.topology import Topology
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.resolve import default_points, trial_config
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.tiers import utility
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.gp import GaussianProcess, Observations, fit
from tuner.search.curve.kernel import Dimensions, Hyperparameters
from tuner.search.factory import SearchSetup
from tuner.search.space import SearchSpace
from tuner.trial.result import Completed, OperatingPoint

Floats = NDArray[np.float64]
DevicesOf = Callable[[Point], float]

MIN_TRIALS = 8
LADDER = 16  # distinct loads up to which all trials count as measured at the same ones
GRID = 33  # loads at which a curve is estimated, where each trial had its own
STEPS = 40  # of fitting the hyperparameters
DRAWS = 64
MIN_GAIN = 0.01  # a share; a trial that betters the best by less does not count
ERROR_RATE = "error_rate"  # has no logarithm: levels that exceed its limit are left out


@dataclass(frozen=True, slots=True)
class FitQuality:
    """How well the model predicts trials that it has not seen, by leave-one-out cross-validation.

    `correlation`: of ranks (Spearman); `median_error`: a share of the measured value. None: too few trials, or
    no variation between them.
    """

    trials: int
    correlation: float | None
    median_error: float | None


@dataclass(frozen=True, slots=True)
class NextTrialGain:
    """The gain to expect of one more trial.

    `probability`: that it betters the best by `MIN_GAIN` or more; `median`: of its gain, a share of the best.
    """

    probability: float
    median: float


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    point: Point
    loads: Floats  # users, or requests/s
    y: Floats  # (loads, outputs): logarithms of the utility, then of what tiers limit
    whole: bool  # neither pruned nor cut short: its best is known


@dataclass(slots=True, eq=False)
class Surrogate:
    """A model of each tier's value over the whole space, in the order of `tiers`.

    Values are utilities (`tuner.results.tiers.utility`).
    """

    study: StudyConfig
    tiers: tuple[str, ...]
    space: SearchSpace
    _limits: Floats  # (tiers, outputs − 1): logarithms
    _encoder: Encoder
    _trials: list[_Trial]
    _process: GaussianProcess
    _devices: dict[tuple[object, ...], float] = field(default_factory=dict)

    def value(self, points: Sequence[Point]) -> Floats:
        """(n, tiers): the estimated utility of each point; 0 where it has no load level inside the tier."""
        u = self._grid(points)
        means = self._process.means(self._encoded(points), u)
        return self._best(means, self._counted(points, u))

    def next_trial(self, candidates: Sequence[Point], seed: int = 0) -> tuple[NextTrialGain, ...]:
        """The gain of the best candidate in each tier, from curves drawn from the posterior.

        A median and not a mean, as gains are log-normal and a few extreme draws would dominate.
        """
        seen = [trial.point for trial in self._trials]
        candidates = [point for point in candidates if self.space.only_active(point) not in seen]
        if not candidates:
            return (NextTrialGain(0.0, 0.0),) * len(self.tiers)
        u = self._grid([*candidates, *seen])
        random = np.random.default_rng(seed)
        new, old = self._process.draws(self._encoded(candidates), u, DRAWS, random)
        now = self._best(old, self._counted(seen, u)).max(axis=1)  # (draws, tiers)
        then = self._best(new, self._counted(candidates, u))  # (draws, n, tiers)
        return tuple(_gain(then[..., i], now[:, i]) for i in range(len(self.tiers)))

    def fit_quality(self) -> dict[str, FitQuality]:
        """Tier → how well the model predicts it."""
        whole = [i for i, trial in enumerate(self._trials) if trial.whole]
        predicted = np.array([self._without(i).value([self._trials[i].point])[0] for i in whole])
        measured = np.array([self._measured(self._trials[i]) for i in whole])
        shape = len(whole), len(self.tiers)
        predicted, measured = predicted.reshape(shape), measured.reshape(shape)
        return {
            tier: _quality(predicted[:, i], measured[:, i]) for i, tier in enumerate(self.tiers)
        }

    def _without(self, index: int) -> "Surrogate":
        rest = [trial for i, trial in enumerate(self._trials) if i != index]
        process = self._refit(rest)
        kept = self._limits, self._encoder, rest, process, self._devices
        return Surrogate(self.study, self.tiers, self.space, *kept)

    def _refit(self, trials: list[_Trial]) -> GaussianProcess:
        seen = _observed(trials, self._encoded([trial.point for trial in trials]), self._devices_of)
        return fit(self._process.dimensions, seen, self._process.span, self._process.hyper, 0, 1)

    def _measured(self, trial: _Trial) -> Floats:
        return np.asarray(self._best(trial.y[None], np.ones((1, len(trial.loads)), np.bool_))[0])

    def _best(self, logs: Floats, counted: NDArray[np.bool_]) -> Floats:
        """(…, loads, outputs) → (…, tiers): the best utility inside each tier."""
        inside = (logs[..., None, 1:] <= self._limits).all(-1) & counted[..., None]
        return np.asarray(np.where(inside, np.exp(logs[..., :1]), 0.0).max(axis=-2))

    def _ladder(self) -> Floats | None:
        """Loads that all trials were measured at (log₂); None where each searched for its own."""
        loads = np.unique(np.concatenate([trial.loads for trial in self._trials]))
        return np.log2(loads) if len(loads) <= LADDER else None

    def _grid(self, points: Sequence[Point]) -> Floats:
        ladder = self._ladder()
        if ladder is None:
            return np.linspace(*self._process.span, GRID)
        sizes = np.log2(sorted({self._devices_of(point) for point in points}))
        return np.unique(np.round(ladder[:, None] - sizes, 9))

    def _counted(self, points: Sequence[Point], u: Floats) -> NDArray[np.bool_]:
        """(n, loads): whether a trial of the point would be measured at this load per device."""
        loads = np.concatenate([trial.loads for trial in self._trials])
        shift, ladder = (
            np.log2([self._devices_of(point) for point in points])[:, None],
            self._ladder(),
        )
        if ladder is not None:
            own = np.round(ladder - shift, 9)
            return np.asarray((u[None, :, None] == own[:, None]).any(-1))
        low, high = np.log2(loads.min()) - shift, np.log2(loads.max()) - shift
        step = (self._process.span[1] - self._process.span[0]) / (GRID - 1) / 2
        return np.asarray((u >= low - step) & (u <= high + step))

    def _encoded(self, points: Sequence[Point]) -> Floats:
        devices = np.log2([[self._devices_of(point)] for point in points]).reshape(-1, 1) / 3
        return np.hstack([self._encoder.encode(points), devices])

    def _devices_of(self, point: Point) -> float:
        return _devices(self.study, point, self._devices)


def fit_surrogate(study: StudyConfig, entries: Sequence[Finished]) -> Surrogate | None:
    """A surrogate of the finished trials of a search; None if fewer than `MIN_TRIALS` have a usable curve."""
    tiers, outputs = study.slo.tiers, _outputs(study)
    trials = [trial for entry in entries if (trial := _trial(study, entry, outputs))]
    if len(trials) < MIN_TRIALS:
        return None
    setup, cache = SearchSetup(study), dict[tuple[object, ...], float]()
    encoder = setup.encoder
    limits = np.array(
        [[_limit(tier.limits(), name) for name in outputs] for tier in tiers.values()]
    )

    def devices_of(point: Point) -> float:
        return _devices(study, point, cache)

    points = [trial.point for trial in trials]
    sizes = np.log2([[devices_of(point)] for point in points]) / 3
    seen = _observed(trials, np.hstack([encoder.encode(points), sizes]), devices_of)
    dimensions = Dimensions.of((*encoder.groups, "devices"))
    span = float(seen.loads.min()), float(seen.loads.max())
    process = fit(
        dimensions, seen, span, Hyperparameters.prior_mean(len(dimensions.names)), STEPS, 1
    )
    kept = limits.reshape(len(tiers), len(outputs)), encoder, trials, process, cache
    return Surrogate(study, tuple(tiers), setup.space, *kept)


def _outputs(study: StudyConfig) -> list[str]:
    limited = (name for tier in study.slo.tiers.values() for name in tier.limits())
    return [name for name in dict.fromkeys(limited) if name != ERROR_RATE]


def _limit(limits: dict[str, float], name: str) -> float:
    return float(np.log(limits[name])) if name in limits else float("inf")


def _trial(study: StudyConfig, entry: Finished, outputs: Sequence[str]) -> _Trial | None:
    """None without a level whose metrics are all known. A pruned trial has the start of its curve."""
    if not isinstance(entry.result, Completed):
        return None
    most_errors = max(tier.error_rate for tier in study.slo.tiers.values())
    rows = []
    for point in entry.result.points:
        load, row = point.load_value, _row(study, point, outputs)
        if load and row is not None and (point.metrics.get(ERROR_RATE) or 0.0) <= most_errors:
            rows.append((load, row))
    if not rows:
        return None
    loads, y = np.array([load for load, _ in rows]), np.array([row for _, row in rows])
    whole = not entry.result.pruned and not entry.result.cut_short
    return _Trial(entry.point, loads, y, whole)


def _row(study: StudyConfig, point: OperatingPoint, outputs: Sequence[str]) -> list[float] | None:
    target, metrics = study.objective.target, point.metrics
    value, limited = metrics.get(target.metric), [metrics.get(name) for name in outputs]
    if not point.valid or not value:
        return None
    known = [each for each in limited if each is not None and each > 0]
    if len(known) < len(outputs):
        return None
    return [float(np.log(utility(target, value))), *(float(np.log(each)) for each in known)]


def _observed(trials: Sequence[_Trial], x: Floats, devices_of: DevicesOf) -> Observations:
    counts = [len(trial.loads) for trial in trials]
    return Observations(
        x,
        np.repeat(np.arange(len(trials)), counts),
        np.concatenate([np.log2(trial.loads / devices_of(trial.point)) for trial in trials]),
        np.concatenate([trial.y for trial in trials]),
    )


def _devices(study: StudyConfig, point: Point, known: dict[tuple[object, ...], float]) -> float:
    """The devices of a trial of the point, cached: few knobs decide, and building a configuration is slow."""
    sizing = {path: v for path, v in point.items() if path.startswith(("topology.", "hardware."))}
    key = tuple(sorted(sizing.items()))
    if key not in known:
        known[key] = _counted_devices(study, point, sizing)
    return known[key]


def _counted_devices(study: StudyConfig, point: Point, sizing: Point) -> float:
    if not any(path.startswith("hardware.") for path in sizing) and (
        study.hardware.twin is None or study.hardware.twin.pools is None
    ):
        changed = {path.partition(".")[2]: value for path, value in sizing.items()}
        return float(Topology.model_validate({**study.topology.model_dump(), **changed}).devices)
    engine = next(iter(default_points(study).values()))
    try:
        return float(trial_config(study, {**engine, **sizing}).devices)
    except ConfigError:
        return float(trial_config(study, point).devices)


def _quality(predicted: Floats, measured: Floats) -> FitQuality:
    varied = len(predicted) >= MIN_TRIALS and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    both = (predicted > 0) & (measured > 0)
    error = float(np.median(np.abs(predicted[both] / measured[both] - 1))) if both.any() else None
    correlation = float(spearmanr(predicted, measured).statistic) if varied else None
    return FitQuality(len(predicted), correlation, error)


def _gain(then: Floats, now: Floats) -> NextTrialGain:
    """Of the candidate with the highest mean log gain.

    `then`: (draws, n), the candidates' values; `now`: (draws,), the best of the trials.
    """
    known = now > 0
    if not known.any():
        return NextTrialGain(0.0, 0.0)
    gains = np.maximum(then[known] / now[known, None] - 1, 0)
    chosen = gains[:, np.log1p(gains).mean(axis=0).argmax()]
    return NextTrialGain(float((chosen >= MIN_GAIN).mean()), float(np.median(chosen)))
