"""What the trials of a study, of whatever search, let one believe of its other configurations. Pure.

The model is that of the search on curves (`tuner.search.curve`): a Gaussian process over configuration and
load. A configuration is worth, in each tier, the most that its believed curve sells inside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from serving.topology import Topology
from tuner.analysis.importance import Domain
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.resolve import default_points, fixed_values, trial_config
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.tiers import worth
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.gp import Observed, Process, fit
from tuner.search.curve.kernel import Dimensions, Hyper
from tuner.search.factory import meanings_of
from tuner.trial.result import Completed, OperatingPoint

Floats = NDArray[np.float64]
DevicesOf = Callable[[Point], float]

LEAST_TRIALS = 8
LADDER = 16  # loads, up to which trials are held to have been measured at the same ones
GRID = 33  # loads on which a curve is looked at, where each trial had its own
STEPS = 40  # in which hyperparameters are fitted
DRAWS = 64
MATTERS = 0.01  # a share by which a trial has to better the best to count
SHARE = "error_rate"  # a limit that has no logarithm: points that break it are left out


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the model foretells trials that it has not seen, one left out at a time. `correlation`: of
    ranks; `median_error`: a share of what was measured. None: too few trials, or all alike."""

    trials: int
    correlation: float | None
    median_error: float | None


@dataclass(frozen=True, slots=True)
class Chance:
    """Of one more trial: the `probability` that it betters the best by `MATTERS` or more, and the share that
    it adds in the middle draw."""

    probability: float
    median: float


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    point: Point
    loads: Floats  # users, or requests/s
    y: Floats  # (loads, outputs): logarithms of worth, then of what tiers limit
    whole: bool  # not given up, not cut short: its best is known


@dataclass(slots=True, eq=False)
class Surrogate:
    """`value` of points is in the order of `tiers`, as worth (`tuner.results.tiers.worth`)."""

    study: StudyConfig
    tiers: tuple[str, ...]
    domain: Domain
    _limits: Floats  # (tiers, outputs − 1): logarithms
    _encoder: Encoder
    _trials: list[_Trial]
    _process: Process
    _devices: dict[tuple[object, ...], float] = field(default_factory=dict)

    def value(self, points: Sequence[Point]) -> Floats:
        """(n, tiers); 0 where a point is believed to have no load inside the tier."""
        u = self._grid(points)
        means = self._process.means(self._encoded(points), u)
        return self._best(means, self._counted(points, u))

    def next_trial(self, candidates: Sequence[Point], seed: int = 0) -> tuple[Chance, ...]:
        """By tier, what the most promising of these would bring, over curves drawn from what is believed.

        No mean: what is believed is log-normal, and a few wild draws would make it.
        """
        seen = [trial.point for trial in self._trials]
        candidates = [point for point in candidates if self.domain.kept(point) not in seen]
        if not candidates:
            return (Chance(0.0, 0.0),) * len(self.tiers)
        u = self._grid([*candidates, *seen])
        random = np.random.default_rng(seed)
        new, old = self._process.draws(self._encoded(candidates), u, DRAWS, random)
        now = self._best(old, self._counted(seen, u)).max(axis=1)  # (draws, tiers)
        then = self._best(new, self._counted(candidates, u))  # (draws, n, tiers)
        return tuple(_chance(then[..., i], now[:, i]) for i in range(len(self.tiers)))

    def fit_quality(self) -> dict[str, Fit]:
        """By tier."""
        whole = [i for i, trial in enumerate(self._trials) if trial.whole]
        told = np.array([self._without(i).value([self._trials[i].point])[0] for i in whole])
        real = np.array([self._measured(self._trials[i]) for i in whole])
        shape = len(whole), len(self.tiers)
        told, real = told.reshape(shape), real.reshape(shape)
        return {tier: _fit(told[:, i], real[:, i]) for i, tier in enumerate(self.tiers)}

    def _without(self, index: int) -> "Surrogate":
        rest = [trial for i, trial in enumerate(self._trials) if i != index]
        process = self._refit(rest)
        kept = self._limits, self._encoder, rest, process, self._devices
        return Surrogate(self.study, self.tiers, self.domain, *kept)

    def _refit(self, trials: list[_Trial]) -> Process:
        seen = _observed(trials, self._encoded([trial.point for trial in trials]), self._devices_of)
        return fit(self._process.dimensions, seen, self._process.span, self._process.hyper, 0, 1)

    def _measured(self, trial: _Trial) -> Floats:
        return np.asarray(self._best(trial.y[None], np.ones((1, len(trial.loads)), np.bool_))[0])

    def _best(self, logs: Floats, counted: NDArray[np.bool_]) -> Floats:
        """(…, loads, outputs) → (…, tiers)"""
        inside = (logs[..., None, 1:] <= self._limits).all(-1) & counted[..., None]
        return np.asarray(np.where(inside, np.exp(logs[..., :1]), 0.0).max(axis=-2))

    def _ladder(self) -> Floats | None:
        """Loads that trials have in common (log₂); None where each looked for its own."""
        loads = np.unique(np.concatenate([trial.loads for trial in self._trials]))
        return np.log2(loads) if len(loads) <= LADDER else None

    def _grid(self, points: Sequence[Point]) -> Floats:
        ladder = self._ladder()
        if ladder is None:
            return np.linspace(*self._process.span, GRID)
        sizes = np.log2(sorted({self._devices_of(point) for point in points}))
        return np.unique(np.round(ladder[:, None] - sizes, 9))

    def _counted(self, points: Sequence[Point], u: Floats) -> NDArray[np.bool_]:
        """(n, loads): whether a trial of the point has so much load on each device."""
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


def believed(study: StudyConfig, entries: Sequence[Finished]) -> Surrogate | None:
    """None if too few trials showed a whole curve."""
    tiers, outputs = study.slo.tiers, _outputs(study)
    trials = [trial for entry in entries if (trial := _trial(study, entry, outputs))]
    if len(trials) < LEAST_TRIALS:
        return None
    engines, fixed = tuple(study.engine), fixed_values(study)
    encoder, cache = (
        Encoder(study.space, engines, fixed, meanings_of(study)),
        dict[tuple[object, ...], float](),
    )
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
    process = fit(dimensions, seen, span, Hyper.typical(len(dimensions.names)), STEPS, 1)
    domain = Domain(study.space, engines, fixed)
    kept = limits.reshape(len(tiers), len(outputs)), encoder, trials, process, cache
    return Surrogate(study, tuple(tiers), domain, *kept)


def _outputs(study: StudyConfig) -> list[str]:
    limited = (name for tier in study.slo.tiers.values() for name in tier.limits())
    return [name for name in dict.fromkeys(limited) if name != SHARE]


def _limit(limits: dict[str, float], name: str) -> float:
    return float(np.log(limits[name])) if name in limits else float("inf")


def _trial(study: StudyConfig, entry: Finished, outputs: Sequence[str]) -> _Trial | None:
    """None without a level of which everything is known. One given up early shows a curve's start."""
    if not isinstance(entry.result, Completed):
        return None
    most_errors = max(tier.error_rate for tier in study.slo.tiers.values())
    rows = []
    for point in entry.result.points:
        load, row = point.load_value, _row(study, point, outputs)
        if load and row is not None and (point.metrics.get(SHARE) or 0.0) <= most_errors:
            rows.append((load, row))
    if not rows:
        return None
    loads, y = np.array([load for load, _ in rows]), np.array([row for _, row in rows])
    whole = not entry.result.given_up and not entry.result.cut_short
    return _Trial(entry.point, loads, y, whole)


def _row(study: StudyConfig, point: OperatingPoint, outputs: Sequence[str]) -> list[float] | None:
    sold, metrics = study.objective.sold, point.metrics
    value, limited = metrics.get(sold.metric), [metrics.get(name) for name in outputs]
    if not point.valid or not value:
        return None
    known = [each for each in limited if each is not None and each > 0]
    if len(known) < len(outputs):
        return None
    return [float(np.log(worth(sold, value))), *(float(np.log(each)) for each in known)]


def _observed(trials: Sequence[_Trial], x: Floats, devices_of: DevicesOf) -> Observed:
    counts = [len(trial.loads) for trial in trials]
    return Observed(
        x,
        np.repeat(np.arange(len(trials)), counts),
        np.concatenate([np.log2(trial.loads / devices_of(trial.point)) for trial in trials]),
        np.concatenate([trial.y for trial in trials]),
    )


def _devices(study: StudyConfig, point: Point, known: dict[tuple[object, ...], float]) -> float:
    """What a trial of the point takes. It depends on few knobs, and a whole configuration is slow to make."""
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


def _fit(told: Floats, real: Floats) -> Fit:
    varied = len(told) >= LEAST_TRIALS and np.ptp(told) > 0 and np.ptp(real) > 0
    both = (told > 0) & (real > 0)
    error = float(np.median(np.abs(told[both] / real[both] - 1))) if both.any() else None
    correlation = float(spearmanr(told, real).statistic) if varied else None
    return Fit(len(told), correlation, error)


def _chance(then: Floats, now: Floats) -> Chance:
    """Of the candidate that adds most to the logarithm of the best. `then`: (draws, n); `now`: (draws,)"""
    known = now > 0
    if not known.any():
        return Chance(0.0, 0.0)
    gains = np.maximum(then[known] / now[known, None] - 1, 0)
    chosen = gains[:, np.log1p(gains).mean(axis=0).argmax()]
    return Chance(float((chosen >= MATTERS).mean()), float(np.median(chosen)))
