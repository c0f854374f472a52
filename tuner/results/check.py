"""Says what is wrong with a ledger, line by line, and makes a new one of everything that is right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.results.appender import Appender
from tuner.results.entry import Entry, Finished, searched
from tuner.results.ledger import LEDGER, whole_ledger
from tuner.results.lines.scan import Contents, Finding, Scanner
from tuner.results.reader import ledger_bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """A ledger's findings, and what can be read of it. `kept`: where the original is after a repair."""

    path: Path
    findings: tuple[Finding, ...]
    proposed: int
    results: int
    kept: Path | None = None

    @property
    def damaged(self) -> bool:
        """Whether a line can't be read."""
        return any(each.kind != "note" for each in self.findings)


def check(study: Path) -> Checked:
    """What is wrong with the ledger of a study. Raises LedgerError if it can't be read at all."""
    return _checked(study / LEDGER, Scanner(study).read(ledger_bytes(study)))


def repair(study: Path) -> Checked:
    """Writes a ledger of everything that is right, if a line is not; the original stays beside it.

    Raises LedgerError, also while the study runs.
    """
    with Appender.open(study / LEDGER) as file:
        found = Scanner(study).read(file.read())
        before = _checked(study / LEDGER, found)
        if not before.findings:
            return before
        found.entries = list(_whole(_ordered(found.entries)))
        return replace(before, kept=file.replace(whole_ledger(found)))


def _checked(path: Path, found: Contents) -> Checked:
    findings = sorted([*found.findings, *_of_all(found)], key=lambda each: each.line)
    proposed = sum(entry.result is None for entry in found.entries)
    return Checked(path, tuple(findings), proposed, len(searched(found.entries)))


def _of_all(found: Contents) -> Iterator[Finding]:
    """What no single line shows."""
    if found.header is None and found.entries:
        yield Finding(1, "note", "no header: written by 0.1.0, or its first line is lost")
    proposed = set[int]()
    for entry in found.entries:
        if entry.result is None:
            proposed.add(entry.number)
        elif entry.number not in proposed:
            proposed.add(entry.number)
            yield Finding(0, "note", f"trial {entry.number}: a result before its proposal")


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """By time, where a result stands before its proposal; else as they are."""
    first = dict[int, bool]()
    for entry in entries:
        first.setdefault(entry.number, entry.result is not None)
    later = {entry.number for entry in entries if entry.result is None}
    if any(result and number in later for number, result in first.items()):
        return sorted(entries, key=lambda entry: (entry.time, entry.result is not None))
    return list(entries)


def _whole(entries: Sequence[Entry]) -> Iterator[Entry]:
    """With the proposals that are missing."""
    proposed = {entry.number for entry in entries if entry.result is None}
    for entry in entries:
        if isinstance(entry, Finished) and entry.number not in proposed:
            known = (entry.number, entry.point, entry.fingerprint)
            yield Entry(*known, None, entry.folder, entry.time, entry.repeat)
        yield entry
