"""The keys of the ledger's lines: what this version writes, and what each key means."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from serving.telemetry.provenance import provenance
from tests.reference.markdown import code, table
from tuner.config.fields import type_text
from tuner.results.ledger import Finished, Ledger, Repeat, results
from tuner.trial.result import Completed, Failed, Measured, OperatingPoint, Timings

GOLDEN = Path(__file__).parents[1] / "golden" / "studies_0.1.0"
EXAMPLE = GOLDEN / "tpe"  # a study of a few trials
CONFIRMED = GOLDEN / "confirm"  # one whose best trials were measured again

LINE: Mapping[str, str] = {
    "status": "`asked`: the search proposed a trial; `completed`, `failed`: its result; `ended`: the search "
    "stopped before its last trial",
    "number": "number of the trial, from 0",
    "fingerprint": "hash of the trial's configuration, 16 hex digits: equal if the same is measured",
    "time": "when the line was written: ISO 8601, UTC",
    "point": "what the search chose: configuration path → value",
    "role": "`confirm` in lines that measure a trial again; missing otherwise",
    "of": "number of the trial that is measured again; null: defaults that the search did not try",
    "round": "round of the re-measurement, from 0",
    "result": "the result; its keys are below",
    "why": "why the search ended",
}
RESULT: Mapping[Any, Mapping[str, str]] = {
    Completed: {
        "config": "everything that decides what is measured: groups of [configuration.md](configuration.md), "
        "where `engine` holds the one engine of the trial",
        "points": "a point per load level, in rising order of load",
        "timings": "seconds of the trial; simulated ones where `provenance.clock` is `virtual`",
        "command": "the engine's launch command",
        "provenance": "what the trial ran on; its keys are below",
        "cut_short": "what ended the load before its last level; empty: nothing did",
        "pruned": "after how many levels the trial was pruned, and why; empty: it was not",
        "status": "`completed`",
    },
    OperatingPoint: {
        "level": "place in the ladder, in the order of measurement, from 0",
        "load": "the load in words: `closed 8` (users), `poisson 2.5/s` (requests)",
        "metrics": "metric of [metrics.md](metrics.md) → value; null: unavailable",
        "reasons": "metric → why it is unavailable, or how far to trust it",
        "invalid_because": "why the level decides nothing; empty: it is valid",
        "predicted": "metric → what the study's prior predicted before the trial",
        "load_value": "users, or requests per second; null where the rate changes inside the level",
    },
    Timings: {
        "wall_s": "whole trial, s",
        "startup_s": "start of the engine until it answered, s",
        "load_s": "load, s",
    },
    Failed: {
        "config": "as above",
        "failure": "class of the failure: `OutOfMemory`, `StartTimeout`, `BadFlags` …",
        "evidence": "the line of the log that says why",
        "timings": "as above",
        "command": "as above",
        "provenance": "as above",
        "status": "`failed`",
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
    "devices": ("list of string", "UUIDs of the trial's GPUs"),
    "power": ("list of string", "each power source, and how it metered"),
    "modelled": ("string", "present where an emulator made the figures: which one"),
    "without_effect": ("list of string", "flags of the engine's command that the emulator ignores"),
    "clock": ("string", "`virtual` where the trial was simulated"),
}
HEADER = ("key", "type", "meaning")
JSON_TYPES = {str: "string", int: "int", dict: "mapping", NoneType: "null"}


def line_table() -> str:
    """The keys of a line."""
    types: dict[str, list[str]] = {}
    for line in written():
        for key, value in line.items():
            name = JSON_TYPES[type(value)]
            types.setdefault(key, [])
            types[key] += [] if name in types[key] else [name]
    return table(HEADER, [(code(k), " or ".join(t), LINE.get(k, "")) for k, t in types.items()])


def completed_table() -> str:
    """The keys of the result of a trial that completed."""
    return table(HEADER, _rows(Completed, "result"))


def failed_table() -> str:
    """The keys of the result of a trial that failed."""
    return table(HEADER, _rows(Failed, "result", inner=False))


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
        found += undescribed(kind.__name__, {field.name for field in fields(kind)}, meanings)
    facts = {key for line in lines for key in line.get("result", {}).get("provenance", {})}
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
        ledger.ended("the next trial is expected to add less than 1 % to the front")
        text = next(Path(folder).glob("*.jsonl")).read_text()
    return tuple(json.loads(line) for line in text.splitlines())


def failed(entry: Finished) -> Failed:
    """A failure of the same trial."""
    config, timings = entry.result.config, entry.result.timings
    return Failed(config, "OutOfMemory", "CUDA out of memory", timings)


def _rows(kind: type, path: str, *, inner: bool = True) -> Iterator[tuple[str, str, str]]:
    """A row per field of a dataclass, those of dataclasses inside it right after."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        nested = [each for each in (hint, *get_args(hint)) if each in RESULT]
        many = bool(nested) and nested[0] is not hint
        type_ = ("list: " if many else "") + "keys below" if nested else _type(hint)
        shown = "keys as above" if nested and not inner else type_
        yield code(f"{path}.{field.name}"), shown, RESULT[kind].get(field.name, "")
        for each in nested if inner else ():
            yield from _rows(each, f"{path}.{field.name}{'[]' if many else ''}")


def _type(hint: Any) -> str:
    text = type_text(hint).replace(" | ", " or ")
    return "mapping" if text == "TrialConfig" else text.replace('"', "`")
