"""What no single value shows: whether the parts of a study fit each other. Pure."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from loadgen import Adaptive
from loadgen.results.metrics import METRICS
from serving.engines import ENGINES, External
from tuner.config.errors import ConfigError, refusal, suggestion
from tuner.config.groups.space import ENGINE, Categorical, Float, Int, Parameter
from tuner.config.resolve import default_points, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.catalogue import SIGNED
from tuner.metrics.derive import DERIVED, unconfigured
from tuner.metrics.energy import POWER

# A search over the workload would compare answers to different questions.
VARIED = ("engine", "topology", "model")
SET_ON_GPUS = ("power.limit_w", "power.sm_clock_mhz")
EMULATED = ("hardware.twin.power.cap_w", "hardware.twin.pools.")  # of a machine that is none


def judge(study: StudyConfig) -> None:
    """Raises ConfigError with a line for each thing that does not fit."""
    faults = [
        *_space(study),
        *_engines(study),
        *_search(study),
        *_limits(study),
        *_objective(study),
        *_economics(study),
        *_workload(study),
    ]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    for point in default_points(study).values():
        trial_config(study, point)


def _space(study: StudyConfig) -> Iterator[str]:
    space, where = study.space, "space.parameters"
    for path, parameter in space.parameters.items():
        yield from (f"{where}.{path}: {text}" for text in _parameter(study, path, parameter))
        for other in parameter.when:
            yield from (f"{where}.{path}.when.{other}: {text}" for text in unknown(study, other))
    for name, constraint in space.constraints.items():
        for path in sorted(constraint.paths()):
            yield from (f"space.constraints.{name}: {text}" for text in unknown(study, path))
    touched = {path.split(".")[1] for path in space.parameters if path.startswith(f"{ENGINE}.")}
    if touched and not touched & set(study.engine):
        yield (
            f"space: it varies {', '.join(sorted(touched))}, but this study has "
            f"{', '.join(study.engine)}: choose a space of it (space=…)"
        )


def _parameter(study: StudyConfig, path: str, parameter: Parameter) -> Iterator[str]:
    varied = path.split(".", maxsplit=1)[0] in VARIED or path in SET_ON_GPUS
    if not varied and not path.startswith(EMULATED):
        yield f"a search varies {', '.join(VARIED)}; for the rest run one study each (--multirun)"
        return
    if path.startswith(EMULATED) and study.hardware.twin is None:
        yield f"{study.hardware.name} is real: this is for emulated hardware (hardware=b300_twin)"
        return
    complaints = list(unknown(study, path))
    yield from complaints
    field = None if complaints else field_at(study, path)
    if field is None:
        return
    for value in _extremes(parameter):
        if why := refusal(field, value):
            yield f"{value!r} is not possible there: {why[0].lower()}{why[1:]}"


def _extremes(parameter: Parameter) -> tuple[Any, ...]:
    match parameter:
        case Int() | Float():
            return (parameter.low, parameter.high)
        case Categorical():
            return parameter.choices
        case _:
            return (False, True)


def _engines(study: StudyConfig) -> Iterator[str]:
    if study.hardware.twin is None:
        return
    for name, engine in study.engine.items():
        if isinstance(engine, External):
            yield f"engine.{name}: it runs already, so {study.hardware.name} can't stand in for it"


def _search(study: StudyConfig) -> Iterator[str]:
    search = study.search
    for i, point in enumerate(search.points):
        for path in point:
            if path != ENGINE:
                yield from (f"search.points.{i}.{path}: {text}" for text in unknown(study, path))
    continuous = [name for name, each in study.space.parameters.items() if each.grid() is None]
    if search.kind == "grid" and continuous:
        yield f"search.kind: a grid has no points on {continuous[0]}: give it a step"
    if search.kind == "list" and not search.points and not search.default_first:
        yield "search.points: a list without points is a study without trials"


def _limits(study: StudyConfig) -> Iterator[str]:
    search = study.search
    if search.budget.usd is not None and study.hardware.usd_per_device_hour is None:
        name = study.hardware.name
        yield (
            f"search.budget.usd: hardware {name} has no price: state hardware.usd_per_device_hour, "
            "or give the budget in device_hours"
        )
    if search.kind == "curve":
        return
    if search.stop.on:
        yield f"search.stop: {search.kind} can't tell what a trial will add: search.kind=curve can"
    if search.prior.kind != "none":
        yield (
            f"search.prior: {search.kind} makes no use of one: search.kind=curve does, "
            "search.prior.kind=none leaves it out"
        )
    if search.cost != "trials":
        yield f"search.cost: {search.kind} saves trials alone: search.kind=curve can weigh their cost"


def _objective(study: StudyConfig) -> Iterator[str]:
    named = {"objective.throughput": study.objective.throughput} | {
        f"objective.axes.{i}.metric": axis.metric for i, axis in enumerate(study.objective.axes)
    }
    known = {*(metric.name for metric in METRICS), *DERIVED, *POWER}
    for path, metric in named.items():
        if metric not in known:
            yield f"{path}: there is no metric {metric}; {suggestion(metric, known, 'metrics')}"
        elif lacking := unconfigured(metric, study.economics, study.hardware):
            group = lacking.partition(".")[0]
            yield f"{path}: {metric} needs {lacking}: state it, or choose {group}=… that does"
    if study.objective.direction == "min" and study.objective.throughput in SIGNED:
        yield f"objective.direction: {study.objective.throughput} is to be maximised: max"


def _economics(study: StudyConfig) -> Iterator[str]:
    prices = study.economics.prices
    for tier in () if prices is None else prices.tiers:
        if tier not in study.slo.tiers:
            known = suggestion(tier, study.slo.tiers, "tiers")
            yield f"economics.prices.tiers.{tier}: the study sells no such tier; {known}"


def _workload(study: StudyConfig) -> Iterator[str]:
    workload, cluster = study.workload, study.cluster
    if isinstance(workload.arrival, Adaptive):
        yield from _tiers(workload.arrival)
    if workload.placement == "apart" and cluster.kind == "local" and cluster.nodes == 1:
        yield (
            "workload.placement: apart takes other nodes than the engine's, and a local cluster has "
            "one: cluster=existing, or workload.placement=beside"
        )


def _tiers(arrival: Adaptive) -> Iterator[str]:
    """Limits are upper ones: of a metric of which more is better there is nothing to keep."""
    limits = {metric.name for metric in METRICS if metric.direction == "min"}
    for tier, promised in arrival.tiers.items():
        for metric in promised:
            if metric not in limits:
                known = suggestion(metric, limits, "limits")
                yield f"workload.arrival.tiers.{tier}.{metric}: no limit of a tier; {known}"


def unknown(study: StudyConfig, path: str) -> Iterator[str]:
    """What is wrong with a path, if it names nothing that a trial has."""
    root, *rest = path.split(".")
    if root == ENGINE and rest:
        known = {**ENGINES, **{name: type(engine) for name, engine in study.engine.items()}}
        if rest[0] not in known:
            yield f"there is no engine {rest[0]}; {suggestion(rest[0], known, 'engines')}"
            return
    if field_at(study, path) is None:
        last, siblings = path.rpartition(".")[2], _siblings(study, path)
        yield f"{path} is no setting; {suggestion(last, siblings, 'settings')}"


def _siblings(study: StudyConfig, path: str) -> list[str]:
    model, _ = _model_of(study, path)
    return [] if model is None else list(model.model_fields)


def field_at(study: StudyConfig, path: str) -> FieldInfo | None:
    """The field that a dotted path names; of a mapping (`env`) any key will do."""
    model, rest = _model_of(study, path)
    field = None
    for place, name in enumerate(rest):
        if field is not None:
            model = _inner(field)
            if model is None:
                whole = "dict" in str(field.annotation) and place == len(rest) - 1
                return FieldInfo(annotation=Any) if whole else None
        field = None if model is None else model.model_fields.get(name)
        if field is None:
            return None
    return field


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    """The settings inside a setting, also where it may be None."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _model_of(study: StudyConfig, path: str) -> tuple[type[BaseModel] | None, list[str]]:
    root, *rest = path.split(".")
    if root == ENGINE:
        if len(rest) < 2:
            return None, []
        known = study.engine.get(rest[0])
        return (type(known) if known is not None else ENGINES.get(rest[0])), rest[1:]
    part = getattr(study, root, None) if root in TrialConfig.model_fields else None
    return (type(part) if isinstance(part, BaseModel) else None), rest
