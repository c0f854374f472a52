"""Ledgers that something has damaged: one line each, nothing lost that was on disk, and the rest salvaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import one_line
from tests.tuner.samples.study import sample_config, sample_study
from tuner.cli.parser import main
from tuner.config.load import save
from tuner.results import reader
from tuner.results.ledger import LEDGER, Ledger, LedgerError, read, results

CONFIG = sample_config(kind="none")
NUMBERS = range(6)
Damage = Callable[[list[bytes]], bytes]
ASKED, RESULT = 7, 8  # places, in the sample, of the lines of trial 2


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def replaced(at: int, *instead: bytes) -> Damage:
    return lambda lines: joined([*lines[:at], *instead, *lines[at + 1 :]])


def inserted(at: int, *more: bytes) -> Damage:
    return lambda lines: joined([*lines[:at], *more, *lines[at:]])


def edited(at: int, old: bytes, new: bytes) -> Damage:
    def edit(lines: list[bytes]) -> bytes:
        assert old in lines[at], lines[at]
        return joined([*lines[:at], lines[at].replace(old, new, 1), *lines[at + 1 :]])

    return edit


def refingered(line: bytes) -> bytes:
    return json.dumps(json.loads(line) | {"fingerprint": "0123456789abcdef"}).encode()


def header(**changed: object) -> bytes:
    line = {"status": "header", "format": 2, "wattfront": "1", "time": "2026-11-30T00:00:00Z"}
    return json.dumps(line | changed).encode()


# What still reads every trial, without a word or with a note of `ledger check`.
HARMLESS: dict[str, Damage] = {
    "empty lines": inserted(3, b"", b"  "),
    "CRLF": lambda lines: b"".join(line + b"\r\n" for line in lines),
    "byte order mark": lambda lines: b"\xef\xbb\xbf" + joined(lines),
    "no end of the last line": lambda lines: joined(lines)[:-1],
    "no header": lambda lines: joined(lines[1:]),
    "a lost base that stands again later": lambda lines: joined([*lines[:2], b"", *lines[3:]]),
    "doubled": lambda lines: joined([*lines, *lines]),
    "a proposal twice": lambda lines: joined([*lines[: ASKED + 1], *lines[ASKED:]]),
    "results without proposals": lambda lines: joined([x for x in lines if b'"asked"' not in x]),
    "reversed": lambda lines: joined(lines[::-1]),
    "zeros before a line": edited(ASKED, b'{"status', bytes(64) + b'{"status'),
}
# What loses a line that was not written whole: skipped, with a warning that says what it was.
TORN: dict[str, tuple[Damage, str]] = {
    "cut in the middle of the last line": (
        lambda lines: joined(lines)[:-40],
        "the result of trial 5 is lost",
    ),
    "cut, and the next line joined to it": (
        lambda lines: joined(lines[:RESULT]) + lines[RESULT][:1500] + joined(lines[RESULT + 1 :]),
        "the result of trial 2 is lost; another line follows it",
    ),
    "cut, and a new line begun": (
        lambda lines: joined([*lines[:RESULT], lines[RESULT][:1500], *lines[RESULT + 1 :]]),
        "the result of trial 2 is lost",
    ),
    "zeros in place of the last line": (
        lambda lines: joined(lines[:-1]) + bytes(4096),
        "zeros only",
    ),
    "cut in the first bytes": (
        lambda lines: joined([*lines[:-1], b'{"sta']),
        "unknown content",
    ),
}
# What must not be read as it is: refused, in one line, with the line's number.
WRONG: dict[str, tuple[Damage, str]] = {
    "not JSON": (inserted(3, b"nonsense"), ":4: not JSON"),
    "latin-1": (inserted(3, '{"status":"ended","why":"für"}'.encode("latin-1")), ":4: not JSON"),
    "JSON of another type": (inserted(3, b"[1, 2]"), ":4: not a line of a ledger"),
    "another status": (inserted(3, b'{"status":"paused"}'), "no known `status`"),
    "an unknown key": (edited(ASKED, b'"number"', b'"colour":"red","number"'), "key 'colour'"),
    "a missing key": (edited(ASKED, b'"number":2,', b""), "the line lacks 'number'"),
    "a negative trial number": (edited(ASKED, b'"number":2', b'"number":-2'), "number: "),
    "1e999": (edited(RESULT, b'"wall_s":', b'"wall_s":1e999,"x":'), "timings"),
    "NaN": (edited(RESULT, b'"number":2', b'"number":NaN'), "number: "),
    "a fingerprint that is a path": (
        edited(ASKED, b'"fingerprint":"', b'"fingerprint":"../../'),
        "fingerprint: ",
    ),
    "another fingerprint": (
        lambda lines: joined([*lines[:RESULT], refingered(lines[RESULT]), *lines[RESULT + 1 :]]),
        "the fingerprint is 0123456789abcdef, that of its configuration ",
    ),
    "deep nesting": (inserted(3, b"[" * 100_000 + b"]" * 100_000), "recursion"),
    "a huge line": (inserted(3, b'{"status":"' + b"x" * (17 << 20) + b'"}'), "17 MiB long"),
    "merge conflict": (
        lambda lines: joined(
            [*lines[:ASKED], b"<<<<<<< ours", *lines[ASKED:], b"=======", b">>>>>>> theirs"]
        ),
        ":8: not JSON",
    ),
    "two results of one trial": (
        lambda lines: joined([*lines, lines[RESULT].replace(b'"wall_s":', b'"wall_s":1', 1)]),
        "trial 2 has a result already",
    ),
    "another proposal of one trial": (
        lambda lines: joined([*lines, lines[ASKED].replace(b'"number":2', b'"number":1')]),
        "trial 1 was proposed before",
    ),
    "a base that was changed": (
        lambda lines: joined(
            [x.replace(b'"input_tokens":32', b'"input_tokens":33') for x in lines]
        ),
        "does not match its id",
    ),
    "no base": (
        lambda lines: joined([x for x in lines if b'"status":"base"' not in x]),
        "lacks its base",
    ),
    "a time without a zone": (edited(ASKED, b"+00:00", b""), "time"),
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "_warned", set())
    folder = tmp_path / "studies" / "damaged"
    folder.mkdir(parents=True)
    save(CONFIG, folder)
    sample_study(folder, CONFIG, NUMBERS)
    return folder


def damage(study: Path, how: Damage) -> None:
    path = study / LEDGER
    path.write_bytes(how(path.read_bytes().splitlines()))


def numbers(study: Path) -> set[int]:
    return {entry.number for entry in results(study)}


def test_the_sample_is_as_the_damages_expect_it(study: Path) -> None:
    lines = (study / LEDGER).read_bytes().splitlines()
    assert b'"asked","number":2' in lines[ASKED]
    assert b'"completed","number":2' in lines[RESULT]


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_damage_loses_nothing(
    study: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(study, HARMLESS[kind])
    assert numbers(study) == set(NUMBERS)
    assert main(["ledger", "check", "damaged"]) == 0
    assert main(["ledger", "check", "damaged", "--repair"]) == 0
    assert numbers(study) == set(NUMBERS)
    assert main(["ledger", "check", "damaged"]) == 0
    assert "every line can be read" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("kind", TORN)
def test_a_torn_line_is_skipped_and_named(
    study: Path, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    how, said = TORN[kind]
    damage(study, how)
    kept = set(NUMBERS) - {2 if "trial 2" in said else 5}
    assert numbers(study) == kept
    assert numbers(study) == kept
    assert len(caplog.records) == 1
    assert said in caplog.text
    assert main(["ledger", "check", "damaged"]) == 4
    assert said in capsys.readouterr().out
    original = (study / LEDGER).read_bytes()
    assert main(["ledger", "check", "damaged", "--repair"]) == 0
    assert (study / f"{LEDGER}.found-1").read_bytes() == original
    assert main(["ledger", "check", "damaged"]) == 0
    assert numbers(study) == kept


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_is_one_line_and_the_rest_is_salvaged(
    study: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    how, said = WRONG[kind]
    damage(study, how)
    original = (study / LEDGER).read_bytes()
    with pytest.raises(LedgerError) as refused:
        read(study)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 600
    with pytest.raises(LedgerError, match="--repair"), Ledger.open(study):
        pass
    assert main(["report", "damaged"]) == 4
    assert "--repair" in one_line(capsys)
    assert (study / LEDGER).read_bytes() == original
    assert main(["ledger", "check", "damaged"]) == 4
    assert main(["ledger", "check", "damaged", "--repair"]) == 0
    assert (study / f"{LEDGER}.found-1").read_bytes() == original
    assert main(["ledger", "check", "damaged"]) == 0
    assert numbers(study) >= (
        set() if kind in ("no base", "a base that was changed") else {0, 1, 3}
    )


def test_a_newer_format_is_refused_and_says_by_what_to_read_it(study: Path) -> None:
    damage(study, lambda lines: joined([header(format=3, wattfront="9.0"), *lines[1:]]))
    original = (study / LEDGER).read_bytes()
    with pytest.raises(LedgerError, match=r"its format is 3, written by wattfront 9.0"):
        read(study)
    assert main(["ledger", "check", "damaged", "--repair"]) == 4
    assert (study / LEDGER).read_bytes() == original


def test_an_empty_ledger_and_none_are_a_study_without_trials(study: Path) -> None:
    (study / LEDGER).write_bytes(b"")
    assert read(study) == []
    (study / LEDGER).unlink()
    assert read(study) == []
    assert main(["ledger", "check", "damaged"]) == 0


def test_a_folder_in_its_place_is_one_line(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / LEDGER).unlink()
    (study / LEDGER).mkdir()
    for command in (["report"], ["ledger", "check"]):
        assert main([*command, "damaged"]) == 4
        assert "Is a directory" in one_line(capsys)
    with pytest.raises(LedgerError, match="Is a directory"), Ledger.open(study):
        pass
