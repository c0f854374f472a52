"""Entries to lines of a ledger."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json

from tuner.results.entry import Attempt, Entry, Finished
from tuner.results.lines.delta import changes, with_point
from tuner.results.lines.models import ATTEMPT, BaseLine, base_line
from tuner.trial.result import Completed, OperatingPoint

# A base is written at its first and third use, and at each 64th: no single line is needed to read a ledger.
REPEATED_AT, REPEATED_EVERY = (0, 2), 64
_EXACT = 2**53

Key = tuple[str, tuple[str, ...] | None, tuple[str, ...]]


class LineEncoder:
    """Writes entries as lines, and the bases that they refer to. `bases`: those that the ledger has already."""

    def __init__(self, bases: Iterable[BaseLine] = ()) -> None:
        self._bases: dict[Key, BaseLine] = {}
        self._uses: dict[str, int] = {}
        for base in bases:
            self._know(base, 1)

    def lines(self, entry: Entry) -> bytes:
        """The lines of an entry, each with its end."""
        status = "asked" if entry.result is None else entry.result.status
        line: dict[str, Any] = {
            "status": ATTEMPT if isinstance(entry, Attempt) else status,
            "number": entry.number,
            "fingerprint": entry.fingerprint,
            "time": entry.time.isoformat(),
            "point": dict(entry.point),
        }
        if entry.repeat is not None:
            repeat = entry.repeat
            line |= {"role": repeat.role, "of": repeat.of, "round": repeat.round}
        if not isinstance(entry, Finished | Attempt):
            return encoded(line)
        base = self._base(entry)
        line["result"] = _packed(entry, base)
        uses = self._uses[base.id]
        self._uses[base.id] = uses + 1
        due = uses in REPEATED_AT or uses % REPEATED_EVERY == 0
        return (encoded(base.model_dump()) if due else b"") + encoded(line)

    def _base(self, entry: Finished | Attempt) -> BaseLine:
        """The one with the engine, and the names, of the result; a new one where there is none."""
        result = entry.result
        engine = result.config.engine.kind
        points = result.points if isinstance(result, Completed) else ()
        if not points:
            known = self._bases.get((engine, None, ()))
            if known is not None:
                return known
        metrics = tuple(points[0].metrics) if points else ()
        predicted = tuple(points[0].predicted) if points else ()
        if known := self._bases.get((engine, metrics, predicted)):
            return known
        config, facts = result.config.model_dump(mode="json"), dict(result.provenance)
        base = base_line(config, facts, list(metrics), list(predicted))
        self._know(base, 0)
        return base

    def _know(self, base: BaseLine, uses: int) -> None:
        engine = str(base.config.get("engine", {}).get("kind"))
        self._bases[engine, tuple(base.metrics), tuple(base.predicted)] = base
        self._bases.setdefault((engine, None, ()), base)  # for results without points
        self._uses.setdefault(base.id, uses)


def encoded(line: Mapping[str, Any]) -> bytes:
    """One line. NaN and Infinity would come back as null: they are written as they are."""
    return to_json(line, inf_nan_mode="constants") + b"\n"


def _packed(entry: Finished | Attempt, base: BaseLine) -> dict[str, Any]:
    result, config = entry.result, entry.result.config.model_dump(mode="json")
    packed: dict[str, Any] = {
        "base": base.id,
        "config": changes(with_point(base.config, entry.point), config),
        "provenance": changes(base.provenance, dict(result.provenance)),
        "timings": {
            name: seconds for name, seconds in asdict(result.timings).items() if seconds is not None
        },
        "command": result.command,
    }
    if isinstance(result, Completed):
        packed["points"] = [_packed_point(point, base) for point in result.points]
        if reasons := list(_reasons(result.points, base.metrics)):
            packed["reasons"] = reasons
        optional = {"cut_short": result.cut_short, "pruned": result.pruned}
        return packed | {key: text for key, text in optional.items() if text}
    packed |= {"failure": result.failure, "evidence": result.evidence}
    optional = {"phase": result.phase, "remedy": result.remedy}
    return packed | {key: text for key, text in optional.items() if text}


def _packed_point(point: OperatingPoint, base: BaseLine) -> dict[str, Any]:
    packed: dict[str, Any] = {
        "level": point.level,
        "load": point.load,
        "load_value": _number(point.load_value),
        "metrics": _values(point.metrics, base.metrics),
    }
    if point.predicted:
        packed["predicted"] = _values(point.predicted, base.predicted)
    if point.invalid_because:
        packed["invalid_because"] = list(point.invalid_because)
    return packed


def _values(values: Mapping[str, float | None], names: list[str]) -> Any:
    if list(values) == names:
        return [_number(value) for value in values.values()]
    return dict(values)


def _number(value: float | None) -> float | None:
    """Whole numbers are written without `.0`; a reader makes them floats again."""
    if value is None or not float(value).is_integer() or str(value) == "-0.0":
        return value
    return int(value) if abs(value) < _EXACT else value


def _reasons(points: Sequence[OperatingPoint], names: list[str]) -> Iterator[list[Any]]:
    """Each text once: with the metrics that it is of, and the points, if not all have it."""
    columns = {name: place for place, name in enumerate(names)}
    places: dict[tuple[str, str], list[int]] = {}
    for place, point in enumerate(points):
        for metric, text in point.reasons.items():
            places.setdefault((text, metric), []).append(place)
    grouped: dict[tuple[str, tuple[int, ...]], list[int | str]] = {}
    for (text, metric), found in places.items():
        of = () if len(found) == len(points) else tuple(found)
        grouped.setdefault((text, of), []).append(columns.get(metric, metric))
    for (text, of), metrics in grouped.items():
        yield [text, metrics, of]
