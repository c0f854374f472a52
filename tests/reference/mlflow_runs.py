"""Tags, parameters and metrics of the MLflow runs, as the golden studies have them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from tests.reference.ledger_lines import CONFIRMED, EXAMPLE, failed, undescribed
from tests.reference.markdown import code, codes, table
from tuner.config.groups.objective import Slo, Tier
from tuner.config.load import load_saved
from tuner.config.study import StudyConfig
from tuner.metrics.catalogue import CATALOGUE
from tuner.results.ledger import Entry, Finished, read, searched
from tuner.tracking.runs import (
    PROVENANCE_TAGS,
    RunData,
    confirmed_metrics,
    confirmed_tags,
    point_run,
    repeat_run,
    study_metrics,
    study_tags,
    trial_run,
    verdicts,
)
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import Completed, with_verdict

KINDS = ("study", "trial", "repeat", "point")
TAGS: Mapping[str, str] = {
    "kind": "`study`, `trial`, `repeat` (a trial measured again), `ablation` (without some of its changes) or "
    "`point` (one load level of a trial)",
    "study": "name of the study's folder",
    "model": "name of the model",
    "hardware": "name of the hardware",
    "workload": "name of the workload",
    "modelled": "`no`, or the emulator that made the figures",
    "view": "address of the table of the study's points in MLflow",
    "mlflow.note.content": "the same page within MLflow, and how to compare the points there",
    "verdict.TIER": "outcome of the re-measurement in words",
    "trial": "number of the trial, three digits",
    "fingerprint": "as in the ledger",
    "engine": "kind of the engine",
    "status": "trial and repeat: `completed` or `failed`; point: `valid` or `invalid`",
    "failure": "class of the failure",
    "fault_domain": "to what the failure belongs: `configuration`, `node`, `rights`, `network`, `machine`",
    "evidence": "the line of the log that says why it failed",
    "phase": "what the engine was doing when it failed",
    "remedy": "what to change, in one sentence",
    "cut_short": "what ended the load before its last level",
    "pruned": "after how many levels the trial was pruned, and why",
    "host": "node that the trial ran on",
    "cpu": "its processor",
    "driver": "version of NVIDIA's driver",
    "engine_version": "version that the engine reports",
    "engine_lock": "SHA-256 of the lock of its environment",
    "wattfront": "version of Wattfront",
    "of": "number of the trial that is measured again, or `default`",
    "round": "round of the re-measurement, from 0",
    "level": "place in the ladder, in the order of measurement, from 0",
    "load": "the load, as in the ledger",
    "invalid_because": "why the point decides nothing",
    "quality": "verdict of the quality gate: `reference`, `passed`, `rejected`, `unknown`",
    "quality_because": "why it is rejected or unknown",
    "limited_by": "what limits or flatters the point, by the metrics of its engine",
    "pareto": "`yes`: on the front; `no`",
    "tier_best": "tiers that the point is the best of, separated by commas; `none`",
}
PARAMS: Mapping[str, str] = {
    "engine": "kind of the engine",
    "model": "name of the model",
    "knobs": "what the search chose, in one string",
    "topology": "layout over devices: `tp4 dp2`, or `2 cores`",
    "KNOB": "each knob of the space, as chosen or configured (`default`: the engine's own), by the last part "
    "of its path, or the whole if two share it",
    "load": "the load, as in the ledger",
    "trial": "number of the trial, three digits",
}
METRICS: Mapping[str, str] = {
    "trials_completed": "trials that completed",
    "trials_failed": "trials that failed",
    "front_points": "points on the front",
    "hypervolume": "hypervolume of the front over the origin; only where all axes are maximised",
    "METRIC_in_TIER": "best value of the target metric in a tier; 0 if there is none and more is better",
    "METRIC_in_TIER_confirmed": "mean over the re-measurements of the tier's choice",
    "METRIC_in_TIER_confirmed_low": "lower end of its interval",
    "METRIC_in_TIER_confirmed_high": "upper end of its interval",
    "METRIC_in_TIER_confirmed_gap": "its value in the search less this mean, as a share: the selection bias",
    "METRIC_in_TIER_confirmed_chance": "probability that it is the best",
    "METRIC_in_TIER_confirmed_over_default": "its gain over the defaults, as a share",
    "startup_s": "start of the engine, s",
    "weight_load_s": "of the start: loading the weights, s; where the engine's log says",
    "engine_warmup_s": "of the start: warm-up, CUDA graphs and compilation, s; where the engine's log says",
    "answers_s": "answers to the prompts of the quality gate, s; where they were asked for",
    "quality_disagreement": "share of greedy tokens unlike those of the quality gate's reference",
    "quality_drift_nats": "mean difference of the log-probabilities of equal tokens from the reference's, nats",
    "load_s": "load, s",
    "wall_s": "whole trial, s",
    "overhead_s": "wall − start − load − answers, s",
    "METRIC": "every metric of [metrics.md](metrics.md) that is available",
    "predicted/METRIC": "what the study's prior predicted before the trial",
}
HEADER = ("name", "runs", "meaning")


def tables() -> Iterator[tuple[str, str]]:
    """(heading, table)."""
    for heading, place, meanings in _parts():
        rows = [
            (code(name), codes(kinds, ", "), meanings.get(name, ""))
            for name, kinds in observed()[place].items()
        ]
        yield heading, table(HEADER, rows)


def problems() -> list[str]:
    """Names without a meaning, and meanings without a name."""
    return [
        line
        for heading, place, meanings in _parts()
        for line in undescribed(f"MLflow {heading.lower()}", observed()[place], meanings)
    ]


def _parts() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    yield "Tags", "tags", TAGS
    yield "Parameters", "params", PARAMS
    yield "Metrics", "metrics", METRICS


@cache
def observed() -> dict[str, dict[str, list[str]]]:
    """tags, params, metrics → name → kinds of run that have it. Names of studies are generalised."""
    found: dict[str, dict[str, list[str]]] = {"tags": {}, "params": {}, "metrics": {}}
    for study, lines in _studies():
        knobs = {path for line in lines for path in line.point}
        for kind, run in _runs(study, lines):
            named = {"tags": run.tags, "params": run.params, "metrics": run.metrics}
            for place, names in named.items():
                for name in names:
                    kinds = found[place].setdefault(_general(name, study, knobs), [])
                    kinds += [] if kind in kinds else [kind]
    return found


def _studies() -> Iterator[tuple[StudyConfig, Sequence[Entry]]]:
    """Two golden studies; in the second, judged by another metric, the re-measurement decides its tier."""
    yield load_saved(EXAMPLE), read(EXAMPLE)
    study = load_saved(CONFIRMED)
    yield study, read(CONFIRMED)
    objective = study.objective.model_copy(update={"metric": "ttft_p99_ms", "direction": "min"})
    slo = Slo(tiers=dict.fromkeys(study.slo.tiers, Tier(tpot_p50_ms=26)))
    yield study.model_copy(update={"objective": objective, "slo": slo}), read(CONFIRMED)


def _runs(study: StudyConfig, lines: Sequence[Entry]) -> Iterator[tuple[str, RunData]]:
    """Every kind of run, with each tag that it can have."""
    search = searched(lines)
    metrics = study_metrics(study, search) | confirmed_metrics(study, lines)
    tags = study_tags(study, "name") | confirmed_tags(study, lines)
    yield "study", RunData("", 0, 0, tags, {}, metrics)
    fronts = verdicts(study, search)
    for entry in search:
        for each in _variants(entry):
            yield "trial", trial_run(study, "name", each)
        for point in entry.result.points if isinstance(entry.result, Completed) else ():
            judged = fronts[entry.number, point.level]
            preempted = {**point.metrics, "engine_preemptions": 1e6}
            full = replace(point, invalid_because=("x",), predicted={"x": 1.0}, metrics=preempted)
            for shown in (point, full):
                of = replace(entry, result=replace(entry.result, points=(shown,)))
                run = point_run(study, "name", of, shown)
                yield "point", replace(run, tags={**run.tags, **judged})
    for line in lines:
        if isinstance(line, Finished) and line.repeat is not None:
            for each in _variants(line):
                yield "repeat", repeat_run(study, "name", each)


def _variants(entry: Finished) -> Iterable[Finished]:
    """The entry, the same with everything that may be said of it, and a failure."""
    facts = dict.fromkeys(PROVENANCE_TAGS, "x")
    full = replace(entry.result, provenance=facts)
    if isinstance(full, Completed):
        times = replace(full.timings, weight_load_s=1.0, engine_warmup_s=1.0, answers_s=1.0)
        full = replace(full, cut_short="x", pruned="x", timings=times)
        figures = {"positions": 1, "drift_nats": 0.0}
        full = with_verdict(full, QualityVerdict("rejected", why="x", **figures))
    return (entry, replace(entry, result=full), replace(entry, result=failed(entry)))


def _general(name: str, study: StudyConfig, knobs: set[str]) -> str:
    """The name with this study's metric, tiers and knobs replaced by words in capitals."""
    for tier in study.slo.tiers:
        name = name.replace(f"{study.objective.metric}_in_{tier}", "METRIC_in_TIER")
        name = name.replace(f"verdict.{tier}", "verdict.TIER")
    if name in CATALOGUE:
        return "METRIC"
    if name.startswith("predicted/"):
        return "predicted/METRIC"
    chosen = {path for path in knobs if path != "engine"}
    return "KNOB" if name in {*chosen, *(path.rsplit(".", 1)[-1] for path in chosen)} else name
