"""Reads a study's ledger: whole, or what was added since the last time. Takes no lock."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tuner.results.entry import Entry, Finished, LedgerError, searched
from tuner.results.lines.scan import LEDGER, Contents, Finding, Scanner, with_verdict_of
from tuner.trial.result import Completed

CHECK = "wattfront ledger check"
_log = logging.getLogger(__name__)
_warned: set[str] = set()  # a damaged ledger is read several times by one command


def contents(study: Path) -> Contents:
    """Everything in the ledger. Torn lines are skipped, with a warning. Raises LedgerError for wrong ones."""
    return judged(study, Scanner(study).read(ledger_bytes(study)))


def read(study: Path) -> list[Entry]:
    """Every complete line, in the order of writing. Works while the study runs."""
    return contents(study).entries


def why_ended(study: Path) -> str:
    """Why the search stopped early by its own rule; empty if it did not."""
    return contents(study).why_ended


def results(study: Path) -> list[Finished]:
    """The finished trials of the search, in the order in which they ended, without repeats."""
    return searched(read(study))


class Reader:
    """Reads what was added since the last time: the cost does not grow with the ledger."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._scanner, self._offset, self._inode = Scanner(study), 0, -1
        self._held: dict[int, Entry] = {}

    def new(self, most_bytes: int | None = None) -> list[Entry]:
        """Entries that were added; all of them once the file was replaced. Raises LedgerError.

        A result whose answers are to be compared comes with the verdict on them.

        `most_bytes`: about how much of the file to read at most; None: all.
        """
        path = self._study / LEDGER
        try:
            with path.open("rb") as file:
                status = path.stat()
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._scanner, self._offset = Scanner(self._study), 0
                    self._held = {}
                    self._inode = status.st_ino
                file.seek(self._offset)
                data = file.read(most_bytes)
                while most_bytes and b"\n" not in data and (more := file.read(most_bytes)):
                    data += more
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"{path}: cannot read it: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]  # the rest is being written
        self._offset += len(whole)
        found = list(self._with_verdicts(judged(self._study, self._scanner.read(whole))))
        # Nothing but what is held back: empty stands for the end of the file.
        return found if found or not whole else self.new(most_bytes)

    def undecided(self) -> list[Entry]:
        """Results that were held back, once each: no verdict is to be expected any more."""
        held, self._held = list(self._held.values()), {}
        return held

    def _with_verdicts(self, read: Contents) -> Iterator[Entry]:
        """Results whose answers are not compared yet are held back until they are."""
        verdicts = {line.number: line.verdict() for line in read.verdicts}
        for number in [number for number in self._held if number in verdicts]:
            yield with_verdict_of(verdicts, self._held.pop(number))
        for entry in read.entries:
            result = entry.result
            if (
                isinstance(entry, Finished)
                and isinstance(result, Completed)
                and result.awaits_verdict
            ):
                self._held[entry.number] = entry
            else:
                yield entry


def judged(study: Path, read: Contents) -> Contents:
    """The same; warns of what was skipped. Raises LedgerError for what must not be read."""
    path = study / LEDGER
    wrong = [each for each in read.findings if each.kind == "wrong"]
    if wrong:
        more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
        raise LedgerError(
            f"{path}:{wrong[0].line}: {wrong[0].what}{more}; "
            f"`{CHECK} {study} --repair` keeps everything else"
        )
    for each in read.findings:
        if each.kind == "torn":
            _warn(path, each)
    return read


def _warn(path: Path, finding: Finding) -> None:
    text = f"{path}:{finding.line}: {finding.what}"
    if text not in _warned:
        _warned.add(text)
        _log.warning("%s", text)


def ledger_bytes(study: Path) -> bytes:
    """The file; nothing where there is none."""
    path = study / LEDGER
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"{path}: cannot read it: {error.strerror}") from error
