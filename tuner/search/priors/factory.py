"""Predictions of a study's curves before it measures any: by the twin, a roofline, or an older study."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from serving.errors import ServingError
from serving.twin.api import SYSTEMS, resolve_model
from serving.twin.config import TwinConfig
from serving.twin.errors import FlagError, NoClosedForm
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.results.ledger import Finished, LedgerError, results
from tuner.search.curve.acquisition import Floats
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.gp import GaussianProcess
from tuner.search.curve.model_average import MeasuredCurve, SurrogateFitter
from tuner.search.curve.prior import Prior, interpolated
from tuner.search.priors.roofline import ShardedModel, roofline
from tuner.search.priors.twin import NoPrediction, mean_lengths, predicted_curve
from tuner.trial.result import Completed
from tuner.trial.simulate import read_flags

MIN_TRIALS = 5  # completed trials of an older study
DOUBLINGS = 13  # of users, from one on, at which a roofline is computed


def prior_of(config: StudyConfig, encoder: Encoder) -> Prior | None:
    """The prior that the search asks for. Raises ConfigError where it is unavailable."""
    match config.search.prior.kind:
        case "none":
            return None
        case "twin":
            return ModelPrior(on_twin(config), by_twin)
        case "roofline":
            return ModelPrior(on_twin(config), by_roofline)
        case "ledger":
            return LedgerPrior(config, encoder)


Rows = Sequence[tuple[float, Mapping[str, float]]]  # users, and the metrics at so many


class ModelPrior:
    """The predictions of an analytical model, configuration by configuration.

    `predict`: a trial → its load levels; None where the model has no prediction.
    """

    def __init__(self, config: StudyConfig, predict: Callable[[TrialConfig], Rows | None]) -> None:
        self._config, self._predict = config, predict

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        """See `Prior`."""
        return np.array([self._curve(point, loads, metrics) for point in points])

    def _curve(self, point: Point, loads: Floats, metrics: Sequence[str]) -> Floats:
        try:
            trial = trial_config(self._config, point)
        except ConfigError:
            return np.full((len(loads), len(metrics)), np.nan)
        if not (rows := self._predict(trial)):
            return np.full((len(loads), len(metrics)), np.nan)
        return _at(rows, trial.devices, loads, metrics)


def on_twin(config: StudyConfig) -> StudyConfig:
    """The study with real hardware replaced by the twin of the system that the prior names.

    Raises ConfigError if it names none.
    """
    hardware, system = config.hardware, config.search.prior.system
    if hardware.twin is not None:
        return config
    if system is None:
        raise ConfigError(
            f"search.prior: {hardware.name} is real hardware: name the system of the twin that it is "
            f"like (search.prior.system={', '.join(SYSTEMS)})"
        )
    changed = hardware.model_copy(update={"twin": TwinConfig(system=system)})
    return config.model_copy(update={"hardware": changed})


def by_twin(trial: TrialConfig) -> Rows | None:
    """The twin's closed form."""
    predicted = predicted_curve(trial)
    if isinstance(predicted, NoPrediction):
        return None
    return [(each.users, each.metrics) for each in predicted]


def by_roofline(trial: TrialConfig) -> Rows | None:
    """A roofline of the twin's system, at 1 to 2^(`DOUBLINGS` − 1) users."""
    twin = trial.hardware.twin
    assert twin is not None, "`on_twin` has set it"
    try:
        prompt, output, _ = mean_lengths(trial.workload)
        setup = read_flags(trial, trial.topology).setup
        facts, weights = resolve_model(setup)
    except (NoClosedForm, ServingError, FlagError):
        return None
    kv = "fp8" if "fp8" in setup.kv else "bf16"
    sharded = ShardedModel(facts, SYSTEMS[twin.system], weights, kv, trial.topology.gpus)
    users = [float(2**i) for i in range(DOUBLINGS)]
    return [(each, roofline(sharded, prompt, output, each)) for each in users]


class LedgerPrior:
    """The surrogate of an older study, of another model or of an earlier night, over this study's space."""

    def __init__(self, config: StudyConfig, encoder: Encoder) -> None:
        folder = Path(config.search.prior.study or "")
        if not config.search.prior.study:
            raise ConfigError("search.prior.study: name the folder of a study with a ledger")
        if not folder.is_dir():
            raise ConfigError(f"search.prior.study: there is no folder {folder}")
        try:
            found = [each for each in results(folder) if isinstance(each.result, Completed)]
        except LedgerError as error:
            raise ConfigError(f"search.prior.study: {error}") from error
        if len(found) < MIN_TRIALS:
            raise ConfigError(
                f"search.prior.study: {folder} has {len(found)} completed trials: "
                f"a prior needs at least {MIN_TRIALS}"
            )
        self._found, self._encoder = found, encoder
        self._process = cache(self._fitted)

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        """See `Prior`."""
        if (process := self._process(tuple(metrics))) is None:
            return np.full((len(points), len(loads), len(metrics)), np.nan)
        return process.means(self._encoder.encode(points), loads)

    def _fitted(self, metrics: tuple[str, ...]) -> GaussianProcess | None:
        curves = [c for i, e in enumerate(self._found) if (c := _measured(i, e, metrics))]
        if len(curves) < MIN_TRIALS:
            return None
        x = self._encoder.encode([each.point for each in self._found])
        fitter = SurrogateFitter(self._encoder.groups, len(metrics))
        grid = np.unique(np.concatenate([curve.u for curve in curves]))
        return fitter.fit(x, grid, None, curves, refit=True).components[0].process


def _measured(index: int, entry: Finished, metrics: Sequence[str]) -> MeasuredCurve | None:
    assert isinstance(entry.result, Completed)
    devices = entry.result.config.devices
    rows = [(p.load_value, p.metrics) for p in entry.result.points if p.valid and p.load_value]
    known = [(load, values) for load, values in rows if all(values.get(m) for m in metrics)]
    if not known:
        return None
    u = np.log2([load / devices for load, _ in known if load])
    y = np.log([[float(values[m] or 0) for m in metrics] for _, values in known])
    return MeasuredCurve(index, u, y)


def _at(rows: Rows, devices: int, loads: Floats, metrics: Sequence[str]) -> Floats:
    """(loads, metrics): a predicted curve at other loads; NaN for what is not predicted."""
    out = np.full((len(loads), len(metrics)), np.nan)
    at = np.log2([users / devices for users, _ in rows])
    for column, metric in enumerate(metrics):
        values = [values.get(_predicted_name(metric)) for _, values in rows]
        if all(value is not None and value > 0 for value in values):
            known = np.log(np.array(values, np.float64))
            out[:, column] = interpolated(known[:, None], at, loads)[:, 0]
    return out


def _predicted_name(metric: str) -> str:
    """The models predict means alone: any percentile of a latency is taken to follow its median."""
    for name in ("ttft", "tpot", "itl", "e2e"):
        if metric.startswith(f"{name}_p"):
            return f"{'tpot' if name == 'itl' else name}_p50_ms"
    return metric
