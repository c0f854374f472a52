"""Checks of a whole study: whether its parts fit each other, which no single value shows. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from loadgen import Adaptive
from loadgen.results.metrics import METRICS
from serving.engines import ENGINES, BaseEngine, External
from serving.engines.flags.check import value_error
from serving.engines.flags.schema import candidates
from tuner.config.errors import ConfigError, refusal, suggestion
from tuner.config.fields import field_at, keys_at
from tuner.config.groups.space import ENGINE, Categorical, Float, Int, Parameter
from tuner.config.resolve import FREE, default_points, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.catalogue import CATALOGUE, SIGNED
from tuner.metrics.derive import unconfigured

# Not the workload: trials under different workloads can't be compared.
VARIED = ("engine", "topology", "model")
SET_ON_GPUS = ("power.limit_w", "power.sm_clock_mhz")
GRID_MAX = 200_000  # points of a grid, which are listed before the first trial
EMULATED = ("hardware.twin.power.cap_w", "hardware.twin.pools.")  # varied on emulated hardware only


class _OfKind(NamedTuple):
    """A setting that only some kinds of its group use."""

    path: str
    kinds: tuple[str, ...]
    why: str  # after the kind that was chosen


OF_KINDS = (
    _OfKind("search.stop", ("curve",), "does not predict what the next trial gains"),
    _OfKind("search.prior", ("curve",), "uses no prior"),
    _OfKind("search.cost", ("curve",), "does not weigh what a trial costs"),
    _OfKind("search.goal", ("curve",), "has no goal but the tiers"),
    _OfKind(
        "search.startup_trials", ("curve", "tpe", "nsga2", "gp"), "has no trials before it chooses"
    ),
    _OfKind("search.prior.system", ("twin", "roofline"), "stands for no system"),
    _OfKind("search.prior.study", ("ledger",), "reads no study"),
    _OfKind("cluster.address", ("existing",), "starts Ray on this machine"),
    _OfKind("tracking.uri", ("mlflow",), "is the ledger only"),
)


def without_unused(study: StudyConfig, typed: Callable[[str], bool]) -> StudyConfig:
    """The study without settings that the chosen kinds do not use, as an experiment may have for another kind.

    `typed`: whether the user gave a setting. Raises ConfigError, with a line for each of those.
    """
    errors = []
    for path, kinds, why in OF_KINDS:
        *parents, name = path.split(".")
        group = _at(study, parents)
        chosen, default = group.kind, type(group).model_fields[name].get_default()
        value = getattr(group, name)
        if chosen in kinds or value == default:
            continue
        if any(typed(leaf) for leaf in _differing(path, value, default)):
            where = ".".join(parents)
            errors.append(
                f"{path}: {chosen} {why}: use {where}.kind={kinds[0]}, or leave {path} out"
            )
        study = _replaced(study, parents, name, default)
    if errors:
        raise ConfigError("\n".join(errors))
    return study


def _differing(path: str, value: Any, default: Any) -> Iterator[str]:
    """The settings at a path and below it that are not as by default."""
    if not isinstance(value, BaseModel):
        yield path
        return
    for name, inner in value:
        if inner != getattr(default, name):
            yield f"{path}.{name}"


def _at(study: StudyConfig, parents: Sequence[str]) -> Any:
    return reduce(getattr, parents, study)


def _replaced(study: StudyConfig, parents: Sequence[str], name: str, value: Any) -> StudyConfig:
    for depth in range(len(parents), -1, -1):
        value = _at(study, parents[:depth]).model_copy(update={name: value})
        name = parents[depth - 1] if depth else ""
    made: StudyConfig = value
    return made


def validate(study: StudyConfig) -> None:
    """Raises ConfigError with one line per error."""
    errors = [
        *_space(study),
        *_engines(study),
        *_search(study),
        *_budget(study),
        *_objective(study),
        *_economics(study),
        *_workload(study),
    ]
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    for point in default_points(study).values():
        trial_config(study, point)


def _space(study: StudyConfig) -> Iterator[str]:
    space, where = study.space, "space.parameters"
    for path, parameter in space.parameters.items():
        yield from (f"{where}.{path}: {text}" for text in _parameter(study, path, parameter))
        for other in parameter.when:
            yield from (f"{where}.{path}.when.{other}: {text}" for text in _unknown(study, other))
    for name, constraint in space.constraints.items():
        for path in sorted(constraint.paths()):
            yield from (f"space.constraints.{name}: {text}" for text in _unknown(study, path))
    engines = {path.split(".")[1] for path in space.parameters if path.startswith(f"{ENGINE}.")}
    if engines and not engines & set(study.engine):
        yield (
            f"space: it varies {', '.join(sorted(engines))}, but this study has "
            f"{', '.join(study.engine)}: choose a space for that engine (space=…)"
        )


def _parameter(study: StudyConfig, path: str, parameter: Parameter) -> Iterator[str]:
    varied = path.split(".", maxsplit=1)[0] in VARIED or path in SET_ON_GPUS
    if not varied and not path.startswith(EMULATED):
        yield (
            f"a search varies {', '.join(VARIED)}; to compare values of another setting run a study "
            "for each (--multirun)"
        )
        return
    if path.startswith(EMULATED) and study.hardware.twin is None:
        yield (
            f"{study.hardware.name} is real hardware, and this setting is for emulated hardware "
            "(hardware=b300_twin)"
        )
        return
    yield from _unknown(study, path)
    for value in _extremes(parameter):
        yield from _refused(study, path, value)


def _refused(study: StudyConfig, path: str, value: object) -> Iterator[str]:
    """Why a setting that there is can't have a value."""
    field = _setting(study, path)
    if field is None or (value is None and path.count(".") >= FREE):
        return  # keys of an engine's setting can always be left out
    _, name, *setting = path.split(".") if path.startswith(f"{ENGINE}.") else ("", "")
    engine = study.engine.get(name) if setting[:1] == ["flags"] else None
    why = refusal(field, value) or (engine and _flag_error(engine, setting[1], value))
    if why:
        shown = "null" if value is None else repr(value)
        yield f"{shown} is not possible there: {why[0].lower()}{why[1:]}"


def _flag_error(engine: BaseEngine, flag: str, value: object) -> str:
    """Why no version that the engine may be takes a value of a flag; empty if one does, or none has it."""
    known = engine.known_flags(None)
    having = [each for each in candidates(known) if each.find(flag)] if known is not None else []
    errors = [value_error(each, flag, value) for each in having]
    return errors[-1] if errors and all(errors) else ""


def _extremes(parameter: Parameter) -> tuple[Any, ...]:
    match parameter:
        case Int() | Float():
            return (parameter.low, parameter.high)
        case Categorical():
            return parameter.choices
        case _:
            return (False, True)


def _engines(study: StudyConfig) -> Iterator[str]:
    for name, engine in study.engine.items():
        if study.model.revision is not None and not engine.takes_revision:
            yield (
                f"model.revision: engine.{name} has no option for a revision: leave it unset, and give "
                "model.source the path of that revision's files"
            )
        for flag, value in engine.flags.items():
            if why := _flag_error(engine, flag, value):
                yield f"engine.{name}.flags.{flag}: {why}"
    if study.hardware.twin is None:
        return
    for name, engine in study.engine.items():
        if isinstance(engine, External):
            yield (
                f"engine.{name}: {study.hardware.name} is emulated, and an engine that runs already "
                "can't be"
            )


def _search(study: StudyConfig) -> Iterator[str]:
    search = study.search
    for i, point in enumerate(search.points):
        for path, value in point.items():
            if path != ENGINE:
                yield from (
                    f"search.points.{i}.{path}: {text}"
                    for text in (*_unknown(study, path), *_refused(study, path, value))
                )
    continuous = [name for name, each in study.space.parameters.items() if each.grid() is None]
    if search.kind == "grid" and continuous:
        yield f"search.kind: a grid needs discrete values: give {continuous[0]} a step"
    elif search.kind == "grid" and (size := _grid_size(study)) > GRID_MAX:
        yield (
            f"search.kind: this grid has up to {size:.2g} points, and at most {GRID_MAX:,} can be listed: "
            "vary fewer settings, or use search=qmc"
        )
    if search.kind == "list" and not search.points and not search.default_first:
        yield "search.points: kind list has no trials without points, as default_first is false"


def _grid_size(study: StudyConfig) -> float:
    """Combinations of all values, conditions left aside."""
    sizes = {path: len(each.grid() or ()) for path, each in study.space.parameters.items()}
    shared = math.prod(n for path, n in sizes.items() if not path.startswith(f"{ENGINE}."))
    of_engine = (
        math.prod(n for path, n in sizes.items() if path.startswith(f"{ENGINE}.{name}."))
        for name in study.engine
    )
    return float(min(shared * sum(of_engine), 10**300))


def _budget(study: StudyConfig) -> Iterator[str]:
    if study.search.budget.usd is not None and study.hardware.usd_per_device_hour is None:
        name = study.hardware.name
        yield (
            f"search.budget.usd: hardware {name} has no price: state hardware.usd_per_device_hour, "
            "or give the budget in device_hours"
        )


def _objective(study: StudyConfig) -> Iterator[str]:
    objective = study.objective
    named = {"objective.metric": objective.metric} | {
        f"objective.axes.{i}.metric": axis.metric for i, axis in enumerate(objective.axes)
    }
    for path, metric in named.items():
        if metric not in CATALOGUE:
            yield f"{path}: there is no metric {metric}; {suggestion(metric, CATALOGUE, 'metrics')}"
        elif missing := unconfigured(metric, study.economics, study.hardware):
            group = missing.partition(".")[0]
            yield f"{path}: {metric} needs {missing}: state it, or choose {group}=… that does"
    if objective.direction == "min" and objective.metric in SIGNED:
        yield f"objective.direction: {objective.metric} can only be maximised: max"


def _economics(study: StudyConfig) -> Iterator[str]:
    prices = study.economics.prices
    for tier in () if prices is None else prices.tiers:
        if tier not in study.slo.tiers:
            known = suggestion(tier, study.slo.tiers, "tiers")
            yield f"economics.prices.tiers.{tier}: slo.tiers has no such tier; {known}"


def _workload(study: StudyConfig) -> Iterator[str]:
    workload, cluster = study.workload, study.cluster
    if isinstance(workload.arrival, Adaptive):
        yield from _ladder_tiers(workload.arrival)
    if workload.placement == "apart" and cluster.kind == "local" and cluster.nodes == 1:
        yield (
            "workload.placement: apart needs a node besides the engine's, and a local cluster has "
            "one: use cluster=existing, or workload.placement=beside"
        )


def _ladder_tiers(arrival: Adaptive) -> Iterator[str]:
    """Limits are upper bounds, so only metrics of which less is better can have one."""
    limits = {metric.name for metric in METRICS if metric.direction == "min"}
    for tier, stated in arrival.tiers.items():
        for metric in stated:
            if metric not in limits:
                known = suggestion(metric, limits, "metrics")
                yield f"workload.arrival.tiers.{tier}.{metric}: a tier can't limit this; {known}"


def _unknown(study: StudyConfig, path: str) -> Iterator[str]:
    """The error of a path that names no setting of a trial."""
    root, *rest = path.split(".")
    if root == ENGINE and rest:
        known = {**ENGINES, **{name: type(engine) for name, engine in study.engine.items()}}
        if rest[0] not in known:
            yield f"there is no engine {rest[0]}; {suggestion(rest[0], known, 'engines')}"
            return
    if _setting(study, path) is None:
        model, inner = _model_of(study, path)
        siblings = [] if model is None else keys_at(model, inner[:-1])
        last = path.rpartition(".")[2]
        yield f"{path} is not a setting; {suggestion(last, siblings, 'settings')}"


def _setting(study: StudyConfig, path: str) -> FieldInfo | None:
    """The field that a dotted path of a trial names."""
    model, rest = _model_of(study, path)
    return None if model is None else field_at(model, rest)


def _model_of(study: StudyConfig, path: str) -> tuple[type[BaseModel] | None, list[str]]:
    """The model of a path's part of the trial, and the rest of the path inside it."""
    root, *rest = path.split(".")
    if root == ENGINE:
        if len(rest) < 2:
            return None, []
        engine = study.engine.get(rest[0])
        return (ENGINES.get(rest[0]) if engine is None else type(engine)), rest[1:]
    part = getattr(study, root, None) if root in TrialConfig.model_fields else None
    return (type(part) if isinstance(part, BaseModel) else None), rest
