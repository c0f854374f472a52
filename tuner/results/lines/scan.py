"""Reads the bytes of a ledger, line by line: entries, and what is wrong with which line."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from pydantic_core import from_json

from tuner.results.entry import Attempt, Entry, Finished, LedgerError
from tuner.results.lines.decoding import LineDecoder, LineError
from tuner.results.lines.models import (
    FORMAT,
    LINE,
    AnyLine,
    AskedLine,
    BaseLine,
    CompleteLine,
    EndedLine,
    HeaderLine,
    LimitLine,
    QualityLine,
    ResultLine,
)
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import Completed, with_verdict

MAX_LINE_BYTES = 1 << 24
_START = re.compile(rb'\{"status": ?"')  # of a line of ours, also where it follows a torn one
_STATUS = re.compile(rb'\{"status": ?"([a-z]+)"(?:, ?"number": ?(\d{1,7}))?')
LEDGER = "ledger.jsonl"
_BOM = b"\xef\xbb\xbf"
_WORDS = {"asked": "the proposal of trial", "completed": "the result of trial"}
_WORDS |= {"failed": "the result of trial", "attempt": "a failed attempt at trial"}
Kind = Literal["torn", "wrong", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a line. `torn`: it was not written whole, and is skipped; `wrong`: it must not be
    read; `note`: it is read, or is superfluous."""

    line: int
    kind: Kind
    what: str


@dataclass(slots=True)
class Contents:
    """What was read of a ledger."""

    entries: list[Entry] = field(default_factory=list)
    ended: list[EndedLine] = field(default_factory=list)
    limits: list[LimitLine] = field(default_factory=list)
    verdicts: list[QualityLine] = field(default_factory=list)
    complete: bool = False
    findings: list[Finding] = field(default_factory=list)
    header: HeaderLine | None = None

    @property
    def why_ended(self) -> str:
        """Why the search stopped early by its own rule; empty if it did not."""
        return self.ended[-1].why if self.ended else ""

    def apply_verdicts(self) -> None:
        """Gives each result the last verdict on its answers."""
        last = {line.number: line.verdict() for line in self.verdicts}
        if last:
            self.entries = [with_verdict_of(last, entry) for entry in self.entries]


def with_verdict_of(verdicts: Mapping[int, QualityVerdict], entry: Entry) -> Entry:
    """An entry with the verdict on its trial's answers, if there is one."""
    verdict = verdicts.get(entry.number)
    if verdict is None or not isinstance(entry, Finished):
        return entry
    if not isinstance(entry.result, Completed):
        return entry
    return replace(entry, result=with_verdict(entry.result, verdict))


class Scanner:
    """Reads lines in the order of the file; may be given more of them later."""

    def __init__(self, study: Path) -> None:
        self.decoder = LineDecoder(study)
        self._path = study / LEDGER
        self._line = 0
        self._asked: dict[int, str] = {}
        self._attempts: set[int] = set()
        self._finished: dict[int, int] = {}  # the hash of its line

    def read(self, data: bytes) -> Contents:
        """Reads more lines. Raises LedgerError for a ledger of a newer format."""
        contents = Contents()
        if not self._line and data.startswith(_BOM):
            data = data[len(_BOM) :]
            contents.findings.append(Finding(1, "note", "starts with a byte order mark"))
        first, lines = self._line + 1, data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self._line += len(lines)
        parsed = list(_parsed(lines, first, contents.findings))
        for number, _, line in parsed:  # first, for a damaged one may have been repeated later
            if isinstance(line, BaseLine):
                self._know(line, number, contents)
        for number, raw, line in parsed:
            if not isinstance(line, BaseLine):
                self._take(line, number, raw, contents)
        contents.apply_verdicts()
        contents.findings.sort(key=lambda each: each.line)
        return contents

    def _know(self, line: BaseLine, number: int, contents: Contents) -> None:
        try:
            self.decoder.know(line)
        except LineError as error:
            contents.findings.append(Finding(number, "wrong", str(error)))

    def _take(self, line: AnyLine, number: int, raw: bytes, contents: Contents) -> None:
        match line:
            case HeaderLine():
                if line.format > FORMAT:
                    raise LedgerError(
                        f"{self._path}: its format is {line.format}, written by wattfront {line.wattfront}; "
                        f"this version reads formats up to {FORMAT}: use that one or a newer one"
                    )
                contents.header = contents.header or line
            case EndedLine():
                contents.ended.append(line)
            case LimitLine():
                contents.limits.append(line)
            case QualityLine():
                contents.verdicts.append(line)
            case CompleteLine():
                contents.complete = True
            case AskedLine() | ResultLine():
                contents.complete = False
                try:
                    self._add(self.decoder.entry(line), raw, contents, number)
                except LineError as error:
                    contents.findings.append(Finding(number, "wrong", str(error)))
            case BaseLine():
                pass

    def _add(self, entry: Entry, raw: bytes, contents: Contents, line: int) -> None:
        trial = entry.number
        if isinstance(entry, Attempt):
            again = same = hash(raw) in self._attempts
            self._attempts.add(hash(raw))
            what = "was attempted before"
        elif isinstance(entry, Finished):
            again, same = trial in self._finished, self._finished.get(trial) == hash(raw)
            self._finished.setdefault(trial, hash(raw))
            what = "has a result already"
        else:
            again, same = trial in self._asked, self._asked.get(trial) == entry.fingerprint
            self._asked.setdefault(trial, entry.fingerprint)
            what = "was proposed before"
        if not again:
            contents.entries.append(entry)
        elif same:
            contents.findings.append(Finding(line, "note", f"trial {trial} {what}: the same again"))
        else:
            raise LineError(f"trial {trial} {what}, and this one differs")


def _parsed(
    lines: Iterable[bytes], first: int, findings: list[Finding]
) -> Iterator[tuple[int, bytes, AnyLine]]:
    """(number, bytes, line) of each line that can be read, or of the part of it that can."""
    for number, raw in enumerate(lines, first):
        text = raw.strip()
        if not text:
            continue
        if len(text) > MAX_LINE_BYTES:
            most = MAX_LINE_BYTES >> 20
            what = f"{len(text) >> 20} MiB long; a line has at most {most} MiB"
            findings.append(Finding(number, "wrong", what))
            continue
        try:
            yield number, text, _line(text)
        except ValueError as error:
            whole = _after_torn(text)
            if whole is not None:
                lost = text[: -len(whole[0])]
                kind: Kind = "torn" if lost.strip(b"\0") else "note"
                findings.append(Finding(number, kind, f"{_lost(lost)}; another line follows it"))
                yield number, *whole
            elif _is_torn(text):
                findings.append(Finding(number, "torn", _lost(text)))
            else:
                findings.append(Finding(number, "wrong", _complaint(error)))


def _line(text: bytes) -> AnyLine:
    return LINE.validate_json(text)


def _after_torn(text: bytes) -> tuple[bytes, AnyLine] | None:
    """The line that was written right after one that was cut, without an end of line between them."""
    starts = [found.start() for found in _START.finditer(text) if found.start()]
    for start in starts[-1:]:
        try:
            return text[start:], _line(text[start:])
        except ValueError:
            return None
    return None


def _is_torn(text: bytes) -> bool:
    """Whether a write ended early: the beginning of a line of ours, or the zeros that a crash leaves."""
    stripped = text.strip(b"\0")
    if not stripped:
        return True
    if not _START.match(stripped):
        return b'{"status":"'.startswith(stripped)
    for cut in range(4):  # the cut may lie inside a character of several bytes
        try:
            from_json(stripped[: len(stripped) - cut])
        except ValueError:
            pass
        else:
            return len(stripped) < len(text)
        try:
            from_json(stripped[: len(stripped) - cut], allow_partial="trailing-strings")
        except ValueError:
            continue
        return True
    return False


def _lost(text: bytes) -> str:
    """What a torn line was about."""
    found = _STATUS.match(text.strip(b"\0"))
    size = f"torn ({len(text)} bytes)"
    if found is None or found[2] is None:
        return f"{size}: {'a line of unknown content' if text.strip(bytes(1)) else 'zeros only'}"
    return f"{size}: {_WORDS.get(found[1].decode(), 'a line of trial')} {int(found[2])} is lost"


def _complaint(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = [str(part) for part in first["loc"]]
    match first["type"]:
        case "json_invalid":
            text = f"not JSON ({first['msg'].removeprefix('Invalid JSON: ')})"
        case "union_tag_not_found" | "union_tag_invalid":
            text = "not a line of a ledger: it has no known `status`"
        case "model_type" | "dict_type" | "model_attributes_type" if not where:
            text = "not a line of a ledger: no JSON object"
        case "missing":
            text = f"the line lacks {where[-1]!r}"
        case "extra_forbidden":
            text = f"unknown key {where[-1]!r}"
        case _:  # after the status, which chose the model, and without the members of a union
            text = f"{'.'.join(where[1:3])}: {first['msg']}"
    return text
