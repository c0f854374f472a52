"""`wattfront list`: every group and option, with a line that says what it is, at 80 columns."""

from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line
from tuner.cli.parser import main
from tuner.config.compose import groups, options

__all__ = ["bare_machine"]


@pytest.mark.parametrize("group", groups())
def test_every_option_has_a_line_of_its_own(group: str) -> None:
    found = options(group)
    assert found
    for option in found:
        assert option.about.endswith("."), f"{group}/{option.name}: {option.about!r} is cut"
        assert "@package" not in option.about
        assert ". " not in option.about


def test_groups_and_options_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{group} " in text for group in groups())
    for group in groups():
        assert main(["list", group]) == 0
        shown = capsys.readouterr().out
        assert all(f"\n{option.name} " in shown for option in options(group))
        text += shown
    assert max(map(len, text.splitlines())) <= 80
    assert main(["list", "engin"]) == 2
    assert "there is no group 'engin'; did you mean engine?" in one_line(capsys)


def test_options_of_ones_own_are_listed(bare_machine: Path, capsys: Captured) -> None:
    own = bare_machine / "mine" / "search"
    own.mkdir(parents=True)
    (own / "ours.yaml").write_text("# @package search\n\n# What we use.\n# More.\nkind: tpe\n")
    (own / "bare.yaml").write_text("kind: tpe\n# Not its head.\n")
    assert main(["list", "search", "-cd", "mine"]) == 0
    text = capsys.readouterr().out
    assert "ours    What we use." in text
    assert "Not its head" not in text
