"""How one point of a study becomes a trial. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from loadgen import Adaptive
from loadgen.workload.workload import Workload, longest_tokens
from serving.engines import External
from serving.launch.routers import router_of
from serving.topology import Layout, Topology
from tuner.config.checks.memory import ModelTooLarge, memory_problem
from tuner.config.checks.numerics import prompts_of
from tuner.config.errors import ConfigError, explain
from tuner.config.groups.search import Screening, SearchConfig
from tuner.config.groups.space import ENGINE, Point, Space
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig

# In engine.KIND.SETTING.key: the depth from which keys are free.
FREE = 3


def single(study: StudyConfig) -> StudyConfig:
    """The study with each engine once, as configured, and no search."""
    search = SearchConfig(kind="list", trials=len(study.engine), seed=study.search.seed)
    changed = {"search": search, "space": Space(), "name": f"{study.name}-bench"}
    return study.model_copy(update=changed)


def default_points(study: StudyConfig) -> dict[str, Point]:
    """Engine → the point that changes none of its settings."""
    several = len(study.engine) > 1
    return {name: {ENGINE: name} if several else {} for name in study.engine}


def fixed_values(study: StudyConfig) -> dict[str, Any]:
    """Dotted path → configured value. Unset paths (the engine's own default) are left out."""
    parts = study.model_dump(
        mode="json", include={"engine", "model", "topology", "hardware", "workload", "power"}
    )
    return {path: value for path, value in _leaves(parts, "") if value is not None}


def laid_out(values: Mapping[str, Any]) -> Topology:
    """The topology of these values, by dotted path; all others are left aside. Not validated."""
    own, prefill = dict[str, Any](), dict[str, Any]()
    for path, value in values.items():
        group, _, name = path.partition(".")
        if group == "topology" and value is not None:
            first, _, inner = name.partition(".")
            if inner:
                prefill[inner] = value
            else:
                own[first] = value
    if prefill:
        own["prefill"] = Layout.model_construct(**prefill)
    return Topology.model_construct(**own)


def measured_workload(study: StudyConfig) -> Workload:
    """The workload; an adaptive ladder that names no tiers looks for the highest load of each tier of `slo`."""
    arrival = study.workload.arrival
    if not isinstance(arrival, Adaptive) or arrival.tiers:
        return study.workload
    tiers = {name: tier.limits() for name, tier in study.slo.tiers.items()}
    found = arrival.model_copy(update={"tiers": tiers})
    return study.workload.model_copy(update={"arrival": found})


def searched_workload(study: StudyConfig) -> Workload:
    """The workload of the search's trials; re-measurement uses `measured_workload`."""
    workload, screening = measured_workload(study), study.search.screening
    return workload if screening is None else screened(workload, screening)


def unscreened(study: StudyConfig) -> StudyConfig:
    """The study without screening: every trial measures the whole workload."""
    search = study.search.model_copy(update={"screening": None})
    return study.model_copy(update={"search": search})


def trial_config(study: StudyConfig, point: Point) -> TrialConfig:
    """The trial of a point. Raises ConfigError if there can be no such trial."""
    name = _chosen(study, point)
    data: dict[str, Any] = study.model_dump(
        include=set(TrialConfig.model_fields) - {ENGINE, "quality"}
    )
    data[ENGINE] = {name: study.engine[name].model_dump()}
    data["workload"] = searched_workload(study).model_dump()
    for path, value in point.items():
        if path != ENGINE:
            _put(data, path, value)
    data[ENGINE] = data[ENGINE][name]
    try:
        config = TrialConfig.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, TrialConfig) from error
    fits(config)
    asked = prompts_of(study, point, config)
    return config if asked is None else config.model_copy(update={"quality": asked})


def fits(trial: TrialConfig) -> None:
    """Raises ConfigError where the model, the workload and the hardware of a trial do not fit each other."""
    topology, hardware, workload = trial.topology, trial.hardware, trial.workload
    longest = longest_tokens(workload)
    if longest is not None and sum(longest) > trial.model.context_tokens:
        raise ConfigError(
            f"model.context_tokens: {trial.model.context_tokens} can't hold the workload's "
            f"{longest[0]} + {longest[1]} tokens: set at least {sum(longest)}"
        )
    if (topology.gpus == 0) != (hardware.device == "host"):
        runs_on = "GPUs" if topology.gpus else "CPU cores"
        raise ConfigError(
            f"hardware: {hardware.name} counts per {hardware.device}, but the topology takes "
            f"{runs_on}: choose a pair that matches (hardware=… topology=…)"
        )
    if trial.reserves.gpus > hardware.devices_per_node:
        raise ConfigError(
            f"topology: {topology.gpus} GPUs do not fit a node of {hardware.name}, "
            f"which has {hardware.devices_per_node}"
        )
    if why := trial.engine.refuses(topology, trial.model.name) or _router_refuses(trial):
        raise ConfigError(f"topology: {why}")
    if problem := memory_problem(trial):
        raise ModelTooLarge(problem)
    _power_settable(trial)


def _router_refuses(trial: TrialConfig) -> str:
    """Why the router before several engines can't take this load; empty if it can, or if there is none."""
    topology, workload = trial.topology, trial.workload
    if not topology.routed or isinstance(trial.engine, External):
        return ""
    if workload.placement == "apart":
        return "a router asks for no API key: set workload.placement=beside"
    ids = (workload.endpoint, workload.prompt) == ("completions", "token_ids")
    if router_of(topology, trial.engine.framework) == "sglang" and ids:
        return "SGLang's router refuses prompts of token ids: set workload.prompt=text"
    return ""


def _power_settable(trial: TrialConfig) -> None:
    """Raises ConfigError where power limits or clocks are configured that can't be set."""
    power, twin = trial.power, trial.hardware.twin
    settings = [name for name in ("limit_w", "sm_clock_mhz") if getattr(power, name) is not None]
    if not settings:
        return
    name = f"power.{settings[0]}"
    if not trial.topology.gpus:
        raise ConfigError(f"{name}: the trial uses no GPU (topology=… hardware=…)")
    if isinstance(trial.engine, External):
        raise ConfigError(f"{name}: can't be set for an engine that runs already")
    if twin is not None and "sm_clock_mhz" in settings:
        raise ConfigError("power.sm_clock_mhz: emulated GPUs have no clocks: use power.limit_w")
    if twin is not None and twin.power.cap_w is not None:
        raise ConfigError("power.limit_w: hardware.twin.power.cap_w limits it too: set only one")


def _chosen(study: StudyConfig, point: Point) -> str:
    names = list(study.engine)
    if ENGINE not in point:
        if len(names) > 1:
            raise ConfigError(f"engine: a point must choose one of {', '.join(names)}")
        return names[0]
    if point[ENGINE] not in study.engine:
        raise ConfigError(f"engine: the study has no {point[ENGINE]!r}, only {', '.join(names)}")
    return str(point[ENGINE])


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    """None leaves the setting out."""
    *parents, last = path.split(".")
    for depth, parent in enumerate(parents):
        # Unset groups of knobs are null, and the free keys of an engine's setting may be missing.
        unset = parent in data or depth >= FREE
        if value is None and unset and data.get(parent) is None:
            return
        inner = {} if unset and data.get(parent) is None else data.get(parent)
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: the trial has no such setting")
        data[parent] = inner
        data = inner
    if value is None and len(parents) >= FREE:
        data.pop(last, None)
    else:
        data[last] = value


def _leaves(data: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in data.items():
        path = f"{prefix}{key}"
        leaves += _leaves(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)]
    return leaves


def screened(workload: Workload, screening: Screening) -> Workload:
    """The workload with shorter levels; requests, loads and seeds are the same."""
    level_max_s = _least(workload.level_max_s, screening.level_max_s)
    precision = workload.precision
    if precision is not None:
        precision = max(precision, screening.precision or 0.0)
    changes = {
        "warmup_s": _least(workload.warmup_s, screening.warmup_s),
        "level_s": min(_least(workload.level_s, screening.level_s), level_max_s),
        "level_max_s": level_max_s,
        "min_requests": int(_least(workload.min_requests, screening.min_requests)),
        "precision": precision,
    }
    return workload.model_copy(update=changes)


def _least(value: float, limit: float | None) -> float:
    return value if limit is None else min(value, limit)
