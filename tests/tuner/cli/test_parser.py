"""The command line itself: help, version, exit codes, and what it refuses."""

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured, one_line
from tuner.cli.exit_codes import MEANINGS, ExitCode
from tuner.cli.parser import main, parse, parser

COMMANDS = ("tune", "bench", "simulate", "plan", "report", "resume", "engines", "models")
COMMANDS += ("twin", "doctor", "fleet", "ledger", "list")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    (example,) = [line for line in text.splitlines() if line.startswith("example: ")]
    program, *words = example.removeprefix("example: ").split()
    assert program == "wattfront"
    assert parse(words).command == command


def test_help_lists_every_command_and_exit_code(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, "example: wattfront tune", "130  interrupted"):
        assert word in text


@pytest.mark.parametrize("words", [[], ["nosuch"], ["tune", "--nosuch"], ["doctor", "--nosuch"]])
def test_a_mistyped_command_line_ends_2(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_overrides_may_stand_around_options() -> None:
    arguments = parse(["tune", "a=1", "--dry-run", "b=2", "~c", "-cd", "mine", "+d=3"])
    assert arguments.overrides == ["a=1", "b=2", "~c", "+d=3"]
    assert (arguments.dry_run, arguments.config_dir) == (True, Path("mine"))


def test_every_command_is_tested_here() -> None:
    (actions,) = [a.choices for a in parser()._actions if isinstance(a.choices, dict)]
    assert set(actions) == set(COMMANDS)


def test_the_version_is_that_of_the_package(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"wattfront {version('wattfront')}\n"


def test_every_exit_code_has_a_meaning_in_the_help() -> None:
    assert set(MEANINGS) == set(ExitCode)
    lines = [line.split(maxsplit=1) for line in parser().format_help().splitlines()]
    for code, meaning in MEANINGS.items():
        assert [str(code.value), meaning] in lines


def test_bytes_that_are_no_text_are_refused(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "name=\udcff"])
    assert ended.value.code == ExitCode.BAD_CONFIG
    assert "an argument is not UTF-8 text: 'name=\\udcff'" in capsys.readouterr().err


def test_a_fault_of_the_disk_is_one_line(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> int:
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr("tuner.cli.studies.plan", full)
    assert main(["plan"]) == ExitCode.MISSING
    assert one_line(capsys) == "wattfront: /x: No space left on device\n"
