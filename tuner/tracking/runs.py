"""The MLflow runs of a study, a trial, a repeat and an operating point, before they are written. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from serving.topology import Layout, Topology
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.confirm.results import remeasured
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Entry, Finished, knob_name
from tuner.results.pareto import hypervolume, pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.tracking.quality_figures import EVIDENCE_LENGTH, quality_metrics, quality_tags
from tuner.trial.bottleneck import explained
from tuner.trial.result import Completed, Failed, OperatingPoint, TrialResult, fault_domain

ENGINE_DEFAULT = "default"  # of a knob that nobody set
PROVENANCE_TAGS = ("host", "cpu", "driver", "engine_version", "engine_lock", "wattfront")
NO_VERDICT: Mapping[str, str] = {"pareto": "no", "tier_best": "none"}
HOW_TO_COMPARE = """[All operating points of this study, best first]({page})

To compare them in a chart:

1. In the experiment's list of runs, search for `tags.kind = "point" and tags.study = "{study}"`
   (add `and tags.pareto = "yes"` for the front alone).
2. Sort by a metric, such as `{y}`:
   in the default order, by creation, points are folded into their trials.
3. Open the chart view, show all runs (the eye above the list), and add a scatter chart:
   X `{x}`, Y `{y}`.
"""


@dataclass(frozen=True, slots=True)
class RunData:
    """One run, written in one batch. Times in ms since the epoch."""

    name: str
    start_ms: int
    end_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def study_tags(study: StudyConfig, name: str, page: str = "", link: str = "") -> dict[str, str]:
    """The tags of the study's run, with a note on how to compare its points.

    `page`: the table of its points within MLflow's UI; `link`: its whole address.
    """
    x, y = (axis.metric for axis in study.objective.axes[:2])
    twin = study.hardware.twin
    return {
        "kind": "study",
        "study": name,
        "model": study.model.name,
        "hardware": study.hardware.name,
        "workload": study.workload.name,
        "modelled": "no" if twin is None else f"twin of {twin.system}",
        "view": link,
        "mlflow.note.content": HOW_TO_COMPARE.format(study=name, x=x, y=y, page=page),
    }


def study_metrics(study: StudyConfig, entries: Sequence[Finished]) -> dict[str, float]:
    """The best of each tier, the size of the front, and its hypervolume if all axes are maximised."""
    found = [entry.result for entry in entries]
    axes = study.objective.axes
    front = pareto_set(found, axes)
    metrics = {
        "trials_completed": float(sum(isinstance(result, Completed) for result in found)),
        "trials_failed": float(sum(isinstance(result, Failed) for result in found)),
        "front_points": float(len(front)),
    }
    metrics |= _in_tiers(study, found)
    if all(axis.direction == "max" for axis in axes):
        volume = hypervolume(
            [each.values for each in front], [0.0] * len(axes), [axis.direction for axis in axes]
        )
        metrics["hypervolume"] = volume
    return metrics


def _in_tiers(study: StudyConfig, results: Sequence[TrialResult]) -> dict[str, float]:
    """The best of each tier. A tier that is not met has throughput 0, and no value of any other metric."""
    target = study.objective.target
    best = best_per_tier(study.slo, study.objective, results)
    return {
        f"{target.metric}_in_{tier}": each.value if isinstance(each, Winner) else 0.0
        for tier, each in best.items()
        if isinstance(each, Winner) or (target.direction == "max" and target.metric not in SIGNED)
    }


def failure_tags(result: Failed) -> dict[str, str]:
    """The class of a failure, to what it belongs, and what its death certificate says."""
    optional = {"phase": result.phase, "remedy": result.remedy[:EVIDENCE_LENGTH]}
    return {
        "failure": result.failure,
        "fault_domain": fault_domain(result.failure),
        "evidence": result.evidence[:EVIDENCE_LENGTH],
        **{name: text for name, text in optional.items() if text},
    }


def trial_run(study: StudyConfig, name: str, entry: Finished) -> RunData:
    """The run of a trial, child of its study's."""
    result, times = entry.result, entry.result.timings
    tags = {**_shared_tags(study, name, entry), "kind": "trial", "status": result.status}
    metrics = {
        "startup_s": times.startup_s,
        "load_s": times.load_s,
        "wall_s": times.wall_s,
        "overhead_s": times.overhead_s,
    }
    parts = {"weight_load_s": times.weight_load_s, "engine_warmup_s": times.engine_warmup_s}
    parts |= {"answers_s": times.answers_s}
    metrics |= {name: seconds for name, seconds in parts.items() if seconds is not None}
    if isinstance(result, Failed):
        tags |= failure_tags(result)
    else:
        metrics |= _in_tiers(study, [result])
        tags |= {"cut_short": result.cut_short[:EVIDENCE_LENGTH]} if result.cut_short else {}
        tags |= {"pruned": result.pruned} if result.pruned else {}
        tags |= quality_tags(result)
        metrics |= quality_metrics(result)
    tags |= {
        key: str(value)
        for key, value in result.provenance.items()
        if key in PROVENANCE_TAGS and value is not None
    }
    start_ms, end_ms = _times(entry)
    title = f"{entry.number:03d} {entry.engine} {entry.knobs}"
    return RunData(title, start_ms, end_ms, tags, params(study, entry), metrics)


def point_run(
    study: StudyConfig,
    name: str,
    entry: Finished,
    point: OperatingPoint,
    verdict: Mapping[str, str] = NO_VERDICT,
) -> RunData:
    """The run of an operating point, child of its trial's. `verdict`: its tags of `verdicts`."""
    tags = {
        **verdict,
        **_shared_tags(study, name, entry),
        "kind": "point",
        "status": "valid" if point.valid else "invalid",
        "level": str(point.level),
        "load": point.load,
    }
    result = entry.result
    limits = explained(result.config, result.points) if isinstance(result, Completed) else {}
    if limit := limits.get(point.level):
        tags["limited_by"] = limit[:EVIDENCE_LENGTH]
    if point.invalid_because:
        tags["invalid_because"] = "; ".join(point.invalid_because)[:EVIDENCE_LENGTH]
    metrics = {
        metric: value
        for metric, value in point.metrics.items()
        if value is not None and math.isfinite(value)
    }
    metrics |= {f"predicted/{metric}": value for metric, value in point.predicted.items()}
    start_ms, end_ms = _times(entry)
    own = {"load": point.load, "trial": f"{entry.number:03d}"}
    title = f"{entry.number:03d} {entry.engine} {point.load}"
    return RunData(
        title, start_ms + 1 + point.level, end_ms, tags, {**params(study, entry), **own}, metrics
    )


def verdicts(
    study: StudyConfig, entries: Sequence[Finished]
) -> dict[tuple[int, int], dict[str, str]]:
    """(trial, level) → tags: whether it is on the front, and which tiers it is the best of."""
    tags = {
        (entry.number, point.level): dict(NO_VERDICT)
        for entry in entries
        for point in (entry.result.points if isinstance(entry.result, Completed) else ())
    }
    found = [entry.result for entry in entries]
    for each in pareto_set(found, study.objective.axes):
        tags[entries[each.index].number, each.point.level]["pareto"] = "yes"
    best: dict[tuple[int, int], list[str]] = {}
    for tier, winner in best_per_tier(study.slo, study.objective, found).items():
        if isinstance(winner, Winner):
            key = (entries[winner.index].number, winner.point.level)
            best.setdefault(key, []).append(tier)
    for key, tiers in best.items():
        tags[key]["tier_best"] = ",".join(tiers)
    return tags


def params(study: StudyConfig, entry: Finished) -> dict[str, str]:
    """The run's parameters: each knob of the space that its engine has, as chosen or as configured.

    A knob's name is that of the point's, unless two share it: then its path.
    """
    config = entry.result.config
    own = f"{ENGINE}.{entry.engine}."
    searched = [
        p for p in study.space.parameters if p.startswith(own) or not p.startswith(f"{ENGINE}.")
    ]
    paths = [path for path in dict.fromkeys((*entry.point, *searched)) if path != ENGINE]
    uses = Counter(map(knob_name, paths))
    chosen = {}
    for path in paths:
        short = knob_name(path)
        value = entry.point[path] if path in entry.point else _configured(config, path)
        chosen[short if uses[short] == 1 else path] = (
            ENGINE_DEFAULT if value is None else str(value)
        )
    return {
        "engine": entry.engine,
        "model": config.model.name,
        "knobs": entry.knobs,
        "topology": _topology(config.topology),
        **chosen,
    }


def _configured(config: TrialConfig, path: str) -> object:
    """The value of a dotted path in a trial; None where nothing is set."""
    first, *rest = path.split(".")
    found: object = getattr(config, first, None)
    for part in rest[1:] if first == ENGINE else rest:
        found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
    return found


def _topology(topology: Topology) -> str:
    """Such as `tp8`, `2 × tp4`, `prefill 2 × tp4, decode tp8`."""
    roles = ("prefill ", "decode ") if topology.prefill is not None else ("",)
    return ", ".join(
        f"{role}{_layout(each, topology.cpus)}"
        for role, each in zip(roles, topology.layouts, strict=True)
    )


def _layout(layout: Layout, cores: int) -> str:
    times = f"{layout.replicas} × " if layout.replicas > 1 else ""
    if cores:
        return f"{times}{cores} cores"
    sizes = {
        "tp": layout.tensor_parallel,
        "pp": layout.pipeline_parallel,
        "dp": layout.data_parallel,
    }
    parts = [f"{name}{size}" for name, size in sizes.items() if size > 1 or name == "tp"]
    return times + " ".join([*parts, *(["ep"] if layout.expert_parallel else [])])


def _shared_tags(study: StudyConfig, name: str, entry: Finished) -> dict[str, str]:
    return {
        "study": name,
        "trial": f"{entry.number:03d}",
        "fingerprint": entry.fingerprint,
        "engine": entry.engine,
        "model": study.model.name,
        "hardware": study.hardware.name,
        "workload": study.workload.name,
        "modelled": entry.modelled or "no",
    }


def _times(entry: Finished) -> tuple[int, int]:
    begin = entry.time - timedelta(seconds=entry.result.timings.wall_s)
    return round(begin.timestamp() * 1000), round(entry.time.timestamp() * 1000)


def repeat_run(study: StudyConfig, name: str, entry: Finished) -> RunData:
    """The run of a repeated trial, of kind `repeat` or `ablation`, without runs for its points."""
    assert entry.repeat is not None
    data, of = trial_run(study, name, entry), entry.repeat.of
    again = "default" if of is None else f"{of:03d}"
    kind = "repeat" if entry.repeat.role == "confirm" else "ablation"
    tags = {**data.tags, "kind": kind, "of": again, "round": str(entry.repeat.round)}
    return replace(data, name=f"{data.name} (round {entry.repeat.round + 1})", tags=tags)


def confirmed_metrics(study: StudyConfig, entries: Sequence[Entry]) -> dict[str, float]:
    """Per tier of a confirmed study: the published number, its interval, and the gap to the search's."""
    target, metrics = study.objective.metric, dict[str, float]()
    for tier in remeasured(study, entries):
        if tier.chosen is None:
            continue
        each = tier.chosen.standing
        figures = {
            "": each.mean,
            "_low": each.low,
            "_high": each.high,
            "_gap": each.selection_bias,
            "_chance": each.p_best,
            "_over_default": each.over_default.share if each.over_default else None,
        }
        base = f"{target}_in_{tier.tier}_confirmed"
        metrics |= {f"{base}{end}": value for end, value in figures.items() if value is not None}
    return metrics


def confirmed_tags(study: StudyConfig, entries: Sequence[Entry]) -> dict[str, str]:
    """The verdict of each tier in words."""
    return {f"verdict.{tier.tier}": tier.verdict.text for tier in remeasured(study, entries)}
