"""The keys of the ledger's lines: what this version writes, and what each key means."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from serving.telemetry.provenance import provenance
from tests.reference.markdown import code, table
from tuner.config.fields import type_text
from tuner.results.ledger import Finished, Ledger, Repeat, results
from tuner.results.lines.models import PackedPoint, PackedResult, PackedTimings
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import Failed, Measured

GOLDEN = Path(__file__).parents[1] / "golden" / "studies_0.1.0"
EXAMPLE = GOLDEN / "tpe"  # a study of a few trials
CONFIRMED = GOLDEN / "confirm"  # one whose best trials were measured again

LINE: Mapping[str, str] = {
    "status": "`header`: the first line; `base`: what results share; `asked`: the search proposed a trial; "
    "`completed`, `failed`: its result; `attempt`: a failure after which it ran again; `quality`: the verdict "
    "of the quality gate on its answers; `ended`: the search stopped before its last trial; `limit`: the "
    "largest node from a trial on; `complete`: the study ran to its end",
    "format": "version of the format; 0.1.0 wrote format 1, without a header, and is still read",
    "wattfront": "version of Wattfront",
    "time": "when the line was written: ISO 8601, UTC",
    "number": "number of the trial, from 0",
    "fingerprint": "hash of the trial's configuration, 16 hex digits: equal if the same is measured",
    "point": "what the search chose: configuration path → value",
    "role": "`confirm` in lines that measure a trial again, `ablation` in those that measure it without some "
    "of its changes; missing otherwise",
    "of": "number of the trial that is measured again; null: defaults that the search did not try",
    "round": "round of the re-measurement, or number of the ablation, from 0",
    "id": "of a base: hash of its content, 8 hex digits. Bases are repeated now and then",
    "config": "of a base: everything that decides what is measured: groups of "
    "[configuration.md](configuration.md), where `engine` holds the one engine of the trial",
    "provenance": "of a base: what the trial ran on; its keys are below",
    "metrics": "of a base: the metrics of [metrics.md](metrics.md), in the order of their values in results",
    "predicted": "of a base: the metrics that the study's prior predicts, in the same way",
    "result": "the result; its keys are below",
    "since": "the first trial that a limit holds for",
    "gpus": "GPUs of the largest node",
    "cpus": "CPU cores of the largest node",
    "why": "why the search ended; of a verdict: why it is rejected or unknown",
    "kind": "verdict: `reference`: others are compared with it; `passed`; `rejected`: no point of the trial is "
    "valid; `unknown`: not compared",
    "reference": "number of the trial whose answers are the reference",
    "positions": "tokens that were chosen after the same context",
    "disagreement": "share of them that differ",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "own": "the same share between the reference's first and second answers",
    "repeat": "the same share between the trial's own first and second answers",
    "drift_nats": "mean absolute difference of the log-probabilities of equal tokens; missing: not reported",
    "own_drift_nats": "the same between the reference's first and second answers",
    "margin_nats": "median lead of the reference's token over its second best, where tokens differ",
}
RESULT: Mapping[Any, Mapping[str, str]] = {
    PackedResult: {
        "base": "id of its base",
        "config": "JSON pointer → value: where the configuration is neither that of the base nor of the point",
        "provenance": "JSON pointer → value: where the provenance is not that of the base",
        "timings": "seconds of the trial; simulated ones where `provenance.clock` is `virtual`",
        "command": "the engine's launch command",
        "points": "a point per load level, in rising order of load; none of a failed trial",
        "reasons": "text, metrics, points: why values are unavailable, or how far to trust them. Metrics are "
        "places in the base's `metrics`, or names; points are places in `points`, none: all",
        "cut_short": "what ended the load before its last level; missing: nothing did",
        "pruned": "after how many levels the trial was pruned, and why; missing: it was not",
        "failure": "class of the failure: `OutOfMemory`, `StartTimeout`, `BadFlags` …",
        "evidence": "the line of the log that says why it failed",
        "phase": "what the engine was doing: `start`, `load`, `capture`, `warm-up`, `under load`; missing: "
        "unknown",
        "remedy": "what to change, in one sentence; missing: unknown",
    },
    PackedPoint: {
        "level": "place in the ladder, in the order of measurement, from 0",
        "load": "the load in words: `closed 8` (users), `poisson 2.5/s` (requests)",
        "load_value": "users, or requests per second; null where the rate changes inside the level",
        "metrics": "values in the order of the base's `metrics`, or by name; null: unavailable. "
        "Figures have 10 significant digits",
        "predicted": "values in the order of the base's `predicted`, or by name",
        "invalid_because": "why the level decides nothing; missing: it is valid",
    },
    PackedTimings: {
        "wall_s": "whole trial, s",
        "startup_s": "start of the engine until it answered, s",
        "load_s": "load, s",
        "weight_load_s": "of the start: loading the weights, s; missing: the engine's log does not say",
        "answers_s": "answers to the prompts of the quality gate, s; missing: none were asked for",
        "engine_warmup_s": "of the start: warm-up, graphs and compilation, s; missing: the log does not say",
    },
}
PROVENANCE: Mapping[str, tuple[str, str]] = {
    "host": ("string", "name of the node"),
    "cpu": ("string", "model of its processor"),
    "cores": ("int", "its processor cores"),
    "memory_bytes": ("int", "its memory, bytes"),
    "kernel": ("string", "its Linux kernel"),
    "python": ("string", "version of Python"),
    "gpus": ("list of string", "its GPUs, by model"),
    "driver": ("string | null", "version of NVIDIA's driver"),
    "wattfront": ("string", "version of Wattfront"),
    "engine_version": ("string | null", "version that the engine reports"),
    "engine_lock": (
        "string",
        "SHA-256 of the lock of its environment (`wattfront engines list`); missing: it has none",
    ),
    "image_digest": (
        "string",
        "digest of its container's image, by docker or podman; missing: it ran in no container",
    ),
    "devices": ("list of string", "UUIDs of the trial's GPUs"),
    "power": ("list of string", "each power source, and how it metered"),
    "engine_metrics": (
        "string",
        "the engine's metrics page: how often it was read, and at what cost; or why it was not",
    ),
    "modelled": ("string", "present where an emulator made the figures: which one"),
    "without_effect": ("list of string", "flags of the engine's command that the emulator ignores"),
    "clock": ("string", "`virtual` where the trial was simulated"),
}
HEADER = ("key", "type", "meaning")
JSON_TYPES = {
    str: "string",
    int: "int",
    float: "float",
    dict: "mapping",
    list: "list",
    NoneType: "null",
}


def line_table() -> str:
    """The keys of a line."""
    types: dict[str, list[str]] = {}
    for line in written():
        for key, value in line.items():
            name = JSON_TYPES[type(value)]
            types.setdefault(key, [])
            types[key] += [] if name in types[key] else [name]
    return table(HEADER, [(code(k), " or ".join(t), LINE.get(k, "")) for k, t in types.items()])


def result_table() -> str:
    """The keys of a result."""
    return table(HEADER, _rows(PackedResult, "result"))


def provenance_table() -> str:
    """The keys of a provenance."""
    return table(
        HEADER,
        [
            (code(f"result.provenance.{key}"), kind.replace(" | ", " or "), meaning)
            for key, (kind, meaning) in PROVENANCE.items()
        ],
    )


def problems() -> list[str]:
    """Keys without a meaning, and meanings without a key."""
    lines = written()
    found = undescribed("ledger line", {key for line in lines for key in line}, LINE)
    for kind, meanings in RESULT.items():
        found += undescribed(kind.__name__, set(kind.model_fields), meanings)
    facts = {key for line in lines for key in line.get("provenance", {})}
    unknown = sorted((facts | provenance().keys()) - PROVENANCE.keys())
    return [*found, *undescribed("provenance", unknown, ())]


def undescribed(where: str, names: Iterable[str], meanings: Iterable[str]) -> list[str]:
    """Names without a meaning, and meanings without a name."""
    return [
        *(f"{where}: {name} has no meaning" for name in sorted({*names} - {*meanings})),
        *(
            f"{where}: {name} has a meaning, and is not there"
            for name in sorted({*meanings} - {*names})
        ),
    ]


@cache
def written() -> tuple[dict[str, Any], ...]:
    """A line of each kind, as this version writes it."""
    entry = results(EXAMPLE)[0]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder)) as ledger:
        for number, repeat in ((0, None), (1, Repeat(0, 0)), (2, Repeat(None, 1))):
            ledger.asked(number, entry.point, entry.fingerprint, repeat)
            ledger.finished(number, entry.point, Measured(entry.result, {}), repeat)
        ledger.finished(3, entry.point, Measured(failed(entry), {}))
        ledger.limited(4, 8, 64)
        ledger.attempted(4, entry.point, Measured(failed(entry), {}))
        ledger.limited(4, 8, 96)
        figures = {"positions": 9, "drift_nats": 0.1, "own_drift_nats": 0.1, "margin_nats": 0.1}
        ledger.compared(0, QualityVerdict("rejected", 1, "its answers differ", **figures))
        ledger.ended("the next trial is expected to add less than 1 % to the front")
        ledger.complete()
        text = next(Path(folder).glob("*.jsonl")).read_text()
    return tuple(json.loads(line) for line in text.splitlines())


def failed(entry: Finished) -> Failed:
    """A failure of the same trial."""
    config, timings = entry.result.config, entry.result.timings
    said = {"phase": "load", "remedy": "Raise topology.tensor_parallel."}
    return Failed(config, "OutOfMemory", "CUDA out of memory", timings, **said)


def _rows(kind: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """A row per field of a model, those of models inside it right after."""
    for name, field in kind.model_fields.items():
        hint = field.annotation
        nested = [each for each in (hint, *get_args(hint)) if each in RESULT]
        many = bool(nested) and nested[0] is not hint
        type_ = ("list: " if many else "") + "keys below" if nested else _type(hint)
        yield code(f"{path}.{name}"), type_, RESULT[kind].get(name, "")
        for each in nested:
            yield from _rows(each, f"{path}.{name}{'[]' if many else ''}")


def _type(hint: Any) -> str:
    text = type_text(hint).replace(" | ", " or ")
    return "mapping" if text == "TrialConfig" else text.replace('"', "`")
