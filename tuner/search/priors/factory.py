"""What is known of a study's curves beforehand: the twin's prediction, a roofline, or an older study."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from serving.errors import ServingError
from serving.twin.closed_form.steady import NoClosedForm
from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import precision
from serving.twin.setup import FlagError
from serving.twin.tables.catalog import SYSTEMS
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.resolve import fixed_values, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.results.ledger import Finished, LedgerError, results
from tuner.search.curve.acquisition import Floats
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.gp import Process
from tuner.search.curve.model_average import Believer, Curve
from tuner.search.curve.prior import Prior, interpolated
from tuner.search.priors.roofline import Laid, roofline
from tuner.search.priors.twin import Refused, mean_lengths, predicted_curve
from tuner.trial.result import Completed
from tuner.trial.simulate import read_flags

LEAST_TRIALS = 5  # of an older study that says anything
DOUBLINGS = 13  # of users, from one on, that a roofline is drawn for


def prior_of(config: StudyConfig, meanings: Mapping[str, str]) -> Prior | None:
    """Raises ConfigError for a prior that can't be had."""
    match config.search.prior.kind:
        case "none":
            return None
        case "twin":
            return Foretold(on_twin(config), by_twin)
        case "roofline":
            return Foretold(on_twin(config), by_roofline)
        case "ledger":
            return LedgerPrior(config, meanings)


Rows = Sequence[tuple[float, Mapping[str, float]]]  # users, and the figures at so many


class Foretold:
    """A prediction for each configuration; none where it has none."""

    def __init__(self, config: StudyConfig, predict: Callable[[TrialConfig], Rows | None]) -> None:
        self._config, self._predict = config, predict

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
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
    """Real hardware is taken for the system that the prior names. Raises ConfigError if it names none."""
    hardware, system = config.hardware, config.search.prior.system
    if hardware.twin is not None:
        return config
    if system is None:
        raise ConfigError(
            f"search.prior: {hardware.name} is real: say which of the twin's machines it is like "
            f"(search.prior.system={', '.join(SYSTEMS)})"
        )
    changed = hardware.model_copy(update={"twin": TwinConfig(system=system)})
    return config.model_copy(update={"hardware": changed})


def by_twin(trial: TrialConfig) -> Rows | None:
    predicted = predicted_curve(trial)
    if isinstance(predicted, Refused):
        return None
    return [(each.users, each.metrics) for each in predicted]


def by_roofline(trial: TrialConfig) -> Rows | None:
    twin = trial.hardware.twin
    assert twin is not None, "taken for one before"
    try:
        prompt, output, _ = mean_lengths(trial.workload)
        setup = read_flags(trial, trial.topology).setup
        facts, weights = precision(setup)
    except (NoClosedForm, ServingError, FlagError):
        return None
    kv = "fp8" if "fp8" in setup.kv else "bf16"
    laid = Laid(facts, SYSTEMS[twin.system], weights, kv, trial.topology.gpus)
    users = [float(2**i) for i in range(DOUBLINGS)]
    return [(each, roofline(laid, prompt, output, each)) for each in users]


class LedgerPrior:
    """What the search on curves would believe after an older study: another model's, last night's."""

    def __init__(self, config: StudyConfig, meanings: Mapping[str, str]) -> None:
        folder = Path(config.search.prior.study or "")
        if not config.search.prior.study:
            raise ConfigError("search.prior.study: which study? a folder with a ledger")
        if not folder.is_dir():
            raise ConfigError(f"search.prior.study: there is no folder {folder}")
        try:
            found = [each for each in results(folder) if isinstance(each.result, Completed)]
        except LedgerError as error:
            raise ConfigError(f"search.prior.study: {error}") from error
        if len(found) < LEAST_TRIALS:
            raise ConfigError(
                f"search.prior.study: {folder} has {len(found)} completed trials: "
                f"{LEAST_TRIALS} at least tell something"
            )
        self._found = found
        self._encoder = Encoder(config.space, list(config.engine), fixed_values(config), meanings)
        self._process = cache(self._fitted)

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        if (process := self._process(tuple(metrics))) is None:
            return np.full((len(points), len(loads), len(metrics)), np.nan)
        return process.means(self._encoder.encode(points), loads)

    def _fitted(self, metrics: tuple[str, ...]) -> Process | None:
        curves = [c for i, e in enumerate(self._found) if (c := _measured(i, e, metrics))]
        if len(curves) < LEAST_TRIALS:
            return None
        x = self._encoder.encode([each.point for each in self._found])
        believer = Believer(self._encoder.groups, len(metrics))
        grid = np.unique(np.concatenate([curve.u for curve in curves]))
        return believer.believe(x, grid, None, curves, refit=True).parts[0][2]


def _measured(index: int, entry: Finished, metrics: Sequence[str]) -> Curve | None:
    assert isinstance(entry.result, Completed)
    devices = entry.result.config.devices
    rows = [(p.load_value, p.metrics) for p in entry.result.points if p.valid and p.load_value]
    known = [(load, values) for load, values in rows if all(values.get(m) for m in metrics)]
    if not known:
        return None
    u = np.log2([load / devices for load, _ in known if load])
    y = np.log([[float(values[m] or 0) for m in metrics] for _, values in known])
    return Curve(index, u, y)


def _at(rows: Rows, devices: int, loads: Floats, metrics: Sequence[str]) -> Floats:
    """A predicted curve at other loads; NaN for what is not predicted."""
    out = np.full((len(loads), len(metrics)), np.nan)
    at = np.log2([users / devices for users, _ in rows])
    for column, metric in enumerate(metrics):
        values = [values.get(_stand_in(metric)) for _, values in rows]
        if all(value is not None and value > 0 for value in values):
            known = np.log(np.array(values, np.float64))
            out[:, column] = interpolated(known[:, None], at, loads)[:, 0]
    return out


def _stand_in(metric: str) -> str:
    """The prediction is of means: any percentile of a latency goes as its median does."""
    for name in ("ttft", "tpot", "itl", "e2e"):
        if metric.startswith(f"{name}_p"):
            return f"{'tpot' if name == 'itl' else name}_p50_ms"
    return metric
