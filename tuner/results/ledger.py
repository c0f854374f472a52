"""The ledger, a study's source of truth: one JSON line per proposed trial and per result, files beside it."""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import Discriminator, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from tuner.config.groups.space import ENGINE, Point
from tuner.config.upgrade import upgraded
from tuner.trial.result import Completed, Failed, Measured, TrialResult


@dataclass(frozen=True, slots=True)
class Repeat:
    """Which trial is measured again (None: a default that the search did not try), in which round from 0."""

    of: int | None
    round: int


LEDGER = "ledger.jsonl"
TRIALS = "trials"
ENDED = "ended"  # the status of the line that says why a search stopped early
CONFIRM = "confirm"  # the role of lines that measure a trial again

RENAMED = {"given_up": "pruned"}  # keys of a result: until 0.1.0 → now
_STEADY_LOAD = re.compile(r"(?:closed|constant|poisson|gamma) ([0-9.e+-]+)(?:/s)?")

_RESULT: TypeAdapter[TrialResult] = TypeAdapter(
    Annotated[Completed | Failed, Discriminator("status")]
)
_log = logging.getLogger(__name__)


class LedgerError(Exception):
    """The ledger can't be read or written. One line."""


def knobs(point: Point) -> str:
    """The values that the search chose, without the engine's name: `parallel=4 threads=2`."""
    chosen = (
        f"{path.rsplit('.', 1)[-1]}={_plain(value)}"
        for path, value in point.items()
        if path != ENGINE
    )
    return " ".join(chosen) or "as configured"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a proposed trial (`result` is None), or its result. `repeat`: set if it measures one again."""

    number: int
    point: Point
    fingerprint: str
    result: TrialResult | None
    folder: Path
    time: datetime
    repeat: Repeat | None = None

    @property
    def knobs(self) -> str:
        """As `knobs` writes the point."""
        return knobs(self.point)

    @property
    def is_default(self) -> bool:
        """Whether the search chose nothing but the engine."""
        return not set(self.point) - {ENGINE}


@dataclass(frozen=True, slots=True)
class Finished(Entry):
    """A line with a result."""

    result: TrialResult

    @property
    def engine(self) -> str:
        """The kind of the trial's engine."""
        return self.result.config.engine.kind

    @property
    def modelled(self) -> str:
        """The source of emulated figures; empty for measured ones. Whatever shows modelled figures says so."""
        return str(self.result.provenance.get("modelled") or "")


class Ledger:
    """A study's ledger, open for writing. Its lines are kept in memory as well."""

    def __init__(self, study: Path, file: BinaryIO, entries: list[Entry], why_ended: str) -> None:
        self._study, self._file, self._entries = study, file, entries
        self.why_ended = why_ended

    @classmethod
    @contextmanager
    def open(cls, study: Path) -> Iterator["Ledger"]:
        """Creates it if missing. Raises LedgerError if another process writes to it or a line is broken."""
        study.mkdir(parents=True, exist_ok=True)
        with (study / LEDGER).open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LedgerError(f"{study / LEDGER}: another process is writing to it") from error
            file.seek(0)
            data = file.read()
            whole = _whole(study, data)
            entries, ended = list(_entries(study, whole)), _why_ended(whole)
            if len(whole) < len(data):
                file.truncate(len(whole))
            elif data and not data.endswith(b"\n"):
                file.write(b"\n")
            _sync(file)
            _sync_folder(study)
            yield cls(study, file, entries, ended)

    def asked(
        self, number: int, point: Point, fingerprint: str, repeat: Repeat | None = None
    ) -> None:
        """Writes that a trial was proposed."""
        folder = _folder(self._study, number, fingerprint)
        entry = Entry(number, dict(point), fingerprint, None, folder, datetime.now(UTC), repeat)
        self._append(entry, "asked")

    def finished(
        self, number: int, point: Point, measured: Measured, repeat: Repeat | None = None
    ) -> Path:
        """Writes the files, then the line: no line refers to missing files. Returns their folder."""
        if any(e.number == number and e.result is not None for e in self._entries):
            raise ValueError(f"trial {number} is finished already")
        result = measured.result
        fingerprint = result.config.fingerprint
        folder = _folder(self._study, number, fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in measured.files.items():
            with (folder / name).open("wb") as file:
                file.write(content)
                _sync(file)
        _sync_folder(folder)
        _sync_folder(folder.parent)
        now = datetime.now(UTC)
        entry = Finished(number, dict(point), fingerprint, result, folder, now, repeat)
        self._append(entry, result.status)
        return folder

    def ended(self, why: str) -> None:
        """Writes why the search stopped before its last trial."""
        line = {"status": ENDED, "time": datetime.now(UTC).isoformat(), "why": why}
        self._file.write(to_json(line) + b"\n")
        _sync(self._file)
        self.why_ended = why

    def entries(self) -> tuple[Entry, ...]:
        """Every line, in the order of writing."""
        return tuple(self._entries)

    def results(self) -> list[Finished]:
        """The finished trials of the search, without repeats."""
        return searched(self._entries)

    def _append(self, entry: Entry, status: str) -> None:
        line: dict[str, Any] = {
            "status": status,
            "number": entry.number,
            "fingerprint": entry.fingerprint,
            "time": entry.time.isoformat(),
            "point": dict(entry.point),
        }
        if entry.repeat is not None:
            line |= {"role": CONFIRM, "of": entry.repeat.of, "round": entry.repeat.round}
        if entry.result is not None:
            # NaN and Infinity would come back as None: they are written as they are.
            line["result"] = _RESULT.dump_python(entry.result)
        self._file.write(to_json(line, inf_nan_mode="constants") + b"\n")
        _sync(self._file)
        self._entries.append(entry)


def read(study: Path) -> list[Entry]:
    """Every complete line, in the order of writing. Takes no lock, so it works while the study runs."""
    return list(_entries(study, _whole(study, _bytes(study))))


def why_ended(study: Path) -> str:
    """Why the search stopped early by its own rule; empty if it did not."""
    return _why_ended(_whole(study, _bytes(study)))


def results(study: Path) -> list[Finished]:
    """The finished trials of the search, in the order in which they ended, without repeats."""
    return searched(read(study))


def searched(entries: Iterable[Entry]) -> list[Finished]:
    """The finished trials among the entries, without repeats."""
    return [e for e in entries if isinstance(e, Finished) and e.repeat is None]


def _bytes(study: Path) -> bytes:
    path = study / LEDGER
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error


def _why_ended(data: bytes) -> str:
    """The reason in the last line of status `ended`."""
    mark = b'"status":"ended"'
    found = [json.loads(line) for line in data.splitlines() if mark in line[: len(mark) + 8]]
    return str(found[-1]["why"]) if found else ""


def _whole(study: Path, data: bytes) -> bytes:
    """The data without the torn last line that a crash during a write leaves."""
    tail = data[data.rfind(b"\n") + 1 :]
    if not tail:
        return data
    try:
        from_json(tail)
    except ValueError:
        _log.warning(
            "%s: the last line is torn (%d bytes) and is ignored", study / LEDGER, len(tail)
        )
        return data[: -len(tail)]
    return data


def _entries(study: Path, data: bytes) -> Iterator[Entry]:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            read_line = json.loads(line)
            if read_line["status"] != ENDED:
                yield _entry(study, read_line)
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{study / LEDGER}:{number}: {_reason(error)}") from error


def _entry(study: Path, line: dict[str, Any]) -> Entry:
    number, fingerprint = line["number"], line["fingerprint"]
    folder, time = _folder(study, number, fingerprint), datetime.fromisoformat(line["time"])
    repeat = Repeat(line["of"], line["round"]) if line.get("role") == CONFIRM else None
    if line["status"] == "asked":
        return Entry(number, line["point"], fingerprint, None, folder, time, repeat)
    raw = upgraded(line["result"], RENAMED)
    for operating_point in raw.get("points", ()):
        operating_point.setdefault("load_value", labelled_load(operating_point["load"]))
    result = _RESULT.validate_python(raw)
    return Finished(number, line["point"], fingerprint, result, folder, time, repeat)


def labelled_load(label: str) -> float | None:
    """The load of a point of 0.1.0, which has it only in its label, such as "poisson 2.5/s"."""
    found = _STEADY_LOAD.fullmatch(label)
    return float(found[1]) if found else None


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the line lacks {error}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"not a line of a ledger ({error})"


def _folder(study: Path, number: int, fingerprint: str) -> Path:
    return study / TRIALS / f"{number:03d}-{fingerprint}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
