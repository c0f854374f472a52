"""Lines of a ledger to entries, of this format and of older ones. Everything from outside is checked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, TypeAdapter, ValidationError
from pydantic_core import to_json

from tuner.config.trial import TrialConfig, fingerprint_of
from tuner.config.upgrade import upgraded
from tuner.results.entry import Attempt, Entry, Finished, Repeat, attempt_folder, trial_folder
from tuner.results.lines.delta import changed, with_point
from tuner.results.lines.models import (
    ATTEMPT,
    AskedLine,
    BaseLine,
    PackedPoint,
    PackedResult,
    PackedTimings,
    ResultLine,
    Values,
    content_id,
)
from tuner.results.lines.upgrade import RENAMED, labelled_load
from tuner.trial.result import Completed, Failed, OperatingPoint, Timings, TrialResult

_RESULT: TypeAdapter[TrialResult] = TypeAdapter(
    Annotated[Completed | Failed, Discriminator("status")]
)
_SHARED = ("model", "hardware", "workload", "power", "economics")  # groups that most trials share


class LineError(ValueError):
    """What is wrong with a line. One line."""


class LineDecoder:
    """Makes entries of lines; knows the bases that it has read. Raises LineError."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self.bases: dict[str, BaseLine] = {}
        self._groups: dict[tuple[str, bytes], Any] = {}
        self._attempts: Counter[int] = Counter()

    def know(self, base: BaseLine) -> None:
        """Takes a base, if its content is what its id says."""
        if base.id != content_id(base.model_dump(exclude={"status", "id"})):
            raise LineError(f"base {base.id}: its content does not match its id")
        self.bases[base.id] = base

    def entry(self, line: AskedLine | ResultLine) -> Entry:
        """The entry of a line."""
        folder = trial_folder(self._study, line.number, line.fingerprint)
        repeat = None
        if line.role is not None:
            if line.round is None:
                raise LineError("a repeat without its round")
            repeat = Repeat(line.of, line.round, line.role)
        if isinstance(line, AskedLine):
            found = (line.number, line.point, line.fingerprint, None, folder, line.time, repeat)
            return Entry(*found)
        try:
            result = self._result(line)
        except ValidationError as error:
            raise LineError(f"result.{reason(error)}") from error
        except RecursionError as error:
            raise LineError("nested too deep") from error
        known = (line.number, line.point, line.fingerprint)
        if isinstance(result, Failed) and line.status == ATTEMPT:
            self._attempts[line.number] += 1
            folder = attempt_folder(folder, self._attempts[line.number])
            return Attempt(*known, result, folder, line.time, repeat)
        return Finished(*known, result, folder, line.time, repeat)

    def _result(self, line: ResultLine) -> TrialResult:
        if "base" not in line.result:
            return self._format_1(line)
        packed = PackedResult.model_validate(line.result)
        base = self.bases.get(packed.base)
        if base is None:
            raise LineError(f"result.base: the ledger lacks its base {packed.base}")
        try:
            raw = changed(with_point(base.config, line.point), packed.config)
            facts = changed(base.provenance, packed.provenance)
        except KeyError as error:
            raise LineError(f"result: its base has no {error}") from error
        config = self._config(raw, line.fingerprint)
        timings = Timings(*packed.timings.model_dump().values())
        if line.status != "completed":
            said = packed.failure, packed.evidence, timings, packed.command, facts
            return Failed(config, *said, packed.phase, packed.remedy)
        reasons = _reasons(packed.reasons, base.metrics, len(packed.points))
        points = tuple(
            _point(point, base, why) for point, why in zip(packed.points, reasons, strict=True)
        )
        return Completed(
            config, points, timings, packed.command, facts, packed.cut_short, packed.pruned
        )

    def _format_1(self, line: ResultLine) -> TrialResult:
        raw = upgraded(line.result, RENAMED)
        config = raw.get("config")
        if not isinstance(config, dict):
            raise LineError("result.config: missing")
        points = raw.get("points", ())
        for point in points if isinstance(points, list) else ():
            if isinstance(point, dict) and isinstance(point.get("load"), str):
                _known_keys(point, OperatingPoint, "result.points")
                point.setdefault("load_value", labelled_load(point["load"]))
        PackedTimings.model_validate(raw.get("timings"))
        status = "completed" if line.status == "completed" else "failed"
        _known_keys(raw, Completed if status == "completed" else Failed, "result")
        status = "completed" if line.status == "completed" else "failed"
        made = {**raw, "config": self._config(config, line.fingerprint), "status": status}
        return _RESULT.validate_python(made)

    def _config(self, raw: Any, fingerprint: str) -> TrialConfig:
        """Groups that were read before are taken as they are: most trials share most of them."""
        if not isinstance(raw, dict):
            raise LineError("result.config: not a mapping")
        if (found := fingerprint_of(raw)) != fingerprint:
            raise LineError(f"the fingerprint is {fingerprint}, that of its configuration {found}")
        keys = {name: (name, to_json(raw[name])) for name in _SHARED if name in raw}
        known = {name: self._groups[key] for name, key in keys.items() if key in self._groups}
        try:
            config = TrialConfig.model_validate({**raw, **known})
        except ValidationError as error:
            raise LineError(f"result.config.{reason(error)}") from error
        for name, key in keys.items():
            self._groups.setdefault(key, getattr(config, name))
        return config


def _known_keys(raw: Mapping[str, Any], kind: type, where: str) -> None:
    if unknown := raw.keys() - {field.name for field in fields(kind)}:
        raise LineError(f"{where}: unknown key {min(unknown)!r}")


def reason(error: ValidationError) -> str:
    """The first complaint, where it is."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _point(packed: PackedPoint, base: BaseLine, reasons: dict[str, str]) -> OperatingPoint:
    metrics = _named(packed.metrics, base.metrics, "metrics")
    predicted = {
        name: value
        for name, value in _named(packed.predicted, base.predicted, "predicted").items()
        if value is not None
    }
    because = tuple(packed.invalid_because)
    return OperatingPoint(
        packed.level, packed.load, metrics, reasons, because, predicted, packed.load_value
    )


def _named(values: Values, names: Sequence[str], what: str) -> Mapping[str, float | None]:
    if isinstance(values, dict):
        return values
    if len(values) not in (len(names), 0):
        raise LineError(f"result.points: {len(values)} {what}, its base names {len(names)}")
    return dict(zip(names, values, strict=False))


def _reasons(
    packed: Sequence[tuple[str, list[int | str], list[int]]], names: Sequence[str], points: int
) -> list[dict[str, str]]:
    found: list[dict[str, str]] = [{} for _ in range(points)]
    for text, metrics, places in packed:
        try:
            of = [names[metric] if isinstance(metric, int) else metric for metric in metrics]
            for place in places or range(points):
                found[place] |= dict.fromkeys(of, text)
        except IndexError as error:
            raise LineError(f"result.reasons: no such metric or point: {text[:60]}") from error
    return found
