"""The ledger, a study's source of truth: one JSON line per proposed trial and per result, files beside it."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuner.config.groups.space import Point
from tuner.results.appender import Appender, Changed, saved_elsewhere
from tuner.results.durable import sync_folder, write_files
from tuner.results.entry import (
    TRIALS,
    Attempt,
    Entry,
    Finished,
    LedgerError,
    Repeat,
    attempt_folder,
    engine_name,
    knob_name,
    knobs,
    repeated,
    searched,
    trial_folder,
)
from tuner.results.lines.encoding import LineEncoder, encoded
from tuner.results.lines.models import FORMAT, EndedLine, LimitLine, QualityLine
from tuner.results.lines.scan import LEDGER, Contents, Scanner, with_verdict_of
from tuner.results.lines.upgrade import RENAMED, labelled_load
from tuner.results.reader import judged, read, results, why_ended
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import Failed, Measured

__all__ = [
    "LEDGER",
    "RENAMED",
    "TRIALS",
    "Attempt",
    "Entry",
    "Finished",
    "Ledger",
    "LedgerError",
    "Repeat",
    "engine_name",
    "knob_name",
    "knobs",
    "labelled_load",
    "read",
    "repeated",
    "results",
    "searched",
    "why_ended",
]
TORN = f"{LEDGER}.torn"  # the ends of lines that a crash cut off
_log = logging.getLogger(__name__)


class Ledger:
    """A study's ledger, open for writing. Its lines are kept in memory as well.

    If the file is removed, replaced or cut meanwhile, a new one is written from memory. What can't be written
    is kept and tried again with the next line.
    """

    def __init__(self, study: Path, file: Appender, scanner: Scanner, found: Contents) -> None:
        self._study, self._file = study, file
        self._contents, self._entries = found, found.entries
        self._encoder = LineEncoder(scanner.decoder.bases.values())
        self._finished = {e.number for e in self._entries if isinstance(e, Finished)}
        self._attempts = Counter(e.number for e in self._entries if isinstance(e, Attempt))
        self._searched = searched(self._entries)
        self._search_place = {e.number: place for place, e in enumerate(self._searched)}
        self._place = {e.number: i for i, e in enumerate(self._entries) if isinstance(e, Finished)}
        self._files: list[tuple[Path, Mapping[str, bytes]]] = []  # not written yet
        self._written = len(self._entries)
        if found.header is None:
            self._file.append(_header())

    @classmethod
    @contextmanager
    def open(cls, study: Path) -> Iterator["Ledger"]:
        """Creates it if missing. Raises LedgerError if another process writes to it or a line is wrong.

        At the end raises LedgerError if something could not be written.
        """
        with Appender.open(study / LEDGER) as file:
            data, scanner = file.read(), Scanner(study)
            found = judged(study, scanner.read(data))
            _mend_end(study, file, data, found)
            sync_folder(study)
            ledger = cls(study, file, scanner, found)
            try:
                yield ledger
            finally:
                ledger._close()

    @property
    def why_ended(self) -> str:
        """Why the search stopped early by its own rule; empty if it did not."""
        return self._contents.why_ended

    def asked(
        self, number: int, point: Point, fingerprint: str, repeat: Repeat | None = None
    ) -> None:
        """Writes that a trial was proposed."""
        folder = trial_folder(self._study, number, fingerprint)
        now = datetime.now(UTC)
        self._add(Entry(number, dict(point), fingerprint, None, folder, now, repeat))

    def finished(
        self, number: int, point: Point, measured: Measured, repeat: Repeat | None = None
    ) -> Path:
        """Writes the files, then the line: no line refers to missing files. Returns their folder."""
        if number in self._finished:
            raise ValueError(f"trial {number} is finished already")
        result, now = measured.result, datetime.now(UTC)
        fingerprint = result.config.fingerprint
        folder = trial_folder(self._study, number, fingerprint)
        entry = Finished(number, dict(point), fingerprint, result, folder, now, repeat)
        self._finished.add(number)
        self._place[number] = len(self._entries)
        if repeat is None:
            self._search_place[number] = len(self._searched)
            self._searched.append(entry)
        self._add(entry, measured.files)
        return folder

    def attempted(
        self, number: int, point: Point, measured: Measured, repeat: Repeat | None = None
    ) -> None:
        """Writes a failure after which the trial runs again; its files are in a folder of their own."""
        failed = measured.result
        assert isinstance(failed, Failed)
        self._attempts[number] += 1
        fingerprint, now = failed.config.fingerprint, datetime.now(UTC)
        folder = trial_folder(self._study, number, fingerprint)
        folder = attempt_folder(folder, self._attempts[number])
        entry = Attempt(number, dict(point), fingerprint, failed, folder, now, repeat)
        self._add(entry, measured.files)

    def compared(self, number: int, verdict: QualityVerdict) -> Finished:
        """Writes what the answers of a finished trial are worth. Returns its line with the verdict."""
        line = QualityLine(number=number, time=datetime.now(UTC), **asdict(verdict))
        place = self._place[number]
        entry = with_verdict_of({number: verdict}, self._entries[place])
        assert isinstance(entry, Finished)
        self._entries[place] = entry
        if (of_search := self._search_place.get(number)) is not None:
            self._searched[of_search] = entry
        self._contents.verdicts.append(line)
        self._write(_compared(line))
        return entry

    def ended(self, why: str) -> None:
        """Writes why the search stopped before its last trial."""
        line = EndedLine(time=datetime.now(UTC), why=why)
        self._contents.ended.append(line)
        self._write(_ended(line))

    @property
    def limits(self) -> Sequence[LimitLine]:
        """What one node of the cluster could hold, and since which proposal of the search."""
        return self._contents.limits

    def limited(self, since: int, gpus: int, cpus: int) -> None:
        """Writes that from that proposal on only layouts were proposed which a node with so many holds."""
        line = LimitLine(time=datetime.now(UTC), since=since, gpus=gpus, cpus=cpus)
        self._contents.limits.append(line)
        self._write(_limited(line))

    def complete(self) -> None:
        """Writes that the study ran to its end."""
        if not self._contents.complete:
            self._contents.complete = True
            self._write(_completed())

    def entries(self) -> Sequence[Entry]:
        """Every line, in the order of writing. It grows with the ledger."""
        return self._entries

    def results(self) -> list[Finished]:
        """The finished trials of the search, without repeats."""
        return list(self._searched)

    def flush(self) -> None:
        """Writes what could not be written before. Raises LedgerError."""
        while self._files:
            folder, files = self._files[0]
            try:
                write_files(folder, files)
            except OSError as error:
                raise LedgerError(
                    f"{folder}: cannot write the trial's files: {error.strerror}"
                ) from error
            self._files.pop(0)
        while self._written < len(self._entries):
            self._write(self._encoder.lines(self._entries[self._written]))
            self._written += 1

    def _add(self, entry: Entry, files: Mapping[str, bytes] | None = None) -> None:
        """In memory first: what was measured is not lost where it can't be written."""
        self._entries.append(entry)
        self._contents.complete = False
        if files is not None:
            self._files.append((entry.folder, files))
        self.flush()

    def _write(self, lines: bytes) -> None:
        try:
            self._file.append(lines)
        except Changed as how:
            kept = self._file.replace(self._whole())
            self._written = len(self._entries) - 1  # `flush` counts the one that it wrote
            _log.warning(
                "%s was %s while the study ran: it is written again from memory (%d results)%s",
                self._study / LEDGER,
                how,
                len(self._finished),
                f"; what was there is now {kept.name}" if kept else "",
            )
        except LedgerError:
            self._encoder = LineEncoder()  # bases of the lines that were not written are due again
            raise

    def _whole(self) -> bytes:
        """The whole ledger, from memory."""
        self._encoder = LineEncoder()
        return whole_ledger(self._contents, self._encoder)

    def _close(self) -> None:
        if self._written == len(self._entries) and not self._files:
            return
        try:
            self.flush()
        except LedgerError as error:
            missing = len(self._entries) - self._written
            place = saved_elsewhere(self._whole())
            rest = (
                f"a whole ledger is at {place}: make room, and copy it to {self._study / LEDGER}"
                if place
                else "no other folder takes it either"
            )
            raise LedgerError(f"{error}; {missing} lines are not in it; {rest}") from error


def whole_ledger(contents: Contents, encoder: LineEncoder | None = None) -> bytes:
    """A ledger as it is written anew."""
    encoder = encoder or LineEncoder()
    lines = [_header(), *(_limited(each) for each in contents.limits)]
    lines += [encoder.lines(entry) for entry in contents.entries]
    lines += [_compared(each) for each in contents.verdicts]
    lines += [_ended(each) for each in contents.ended]
    return b"".join([*lines, *([_completed()] if contents.complete else [])])


def _mend_end(study: Path, file: Appender, data: bytes, found: Contents) -> None:
    """Gives the last line its end; a torn one is moved to a file beside the ledger."""
    tail = data[data.rfind(b"\n") + 1 :]
    if not tail:
        return
    last = data.count(b"\n") + 1
    if not any(each.line == last and each.kind == "torn" for each in found.findings):
        file.append(b"\n")
        return
    with (study / TORN).open("ab") as torn:
        torn.write(file.cut(len(data) - len(tail)) + b"\n")


def _header() -> bytes:
    try:
        ours = version("wattfront")
    except PackageNotFoundError:
        ours = "unknown"
    line = {"status": "header", "format": FORMAT, "wattfront": ours, "time": _now()}
    return encoded(line)


def _ended(line: EndedLine) -> bytes:
    return encoded({"status": line.status, "time": line.time.isoformat(), "why": line.why})


def _limited(line: LimitLine) -> bytes:
    return encoded(line.model_dump(mode="json"))


def _compared(line: QualityLine) -> bytes:
    without = None if line.tasks else {"tasks"}
    return encoded(line.model_dump(mode="json", exclude_none=True, exclude=without))


def _completed() -> bytes:
    return encoded({"status": "complete", "time": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat()
