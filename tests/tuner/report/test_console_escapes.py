"""Texts of ledgers, logs and answers are shown, never obeyed: no escape sequence, no markup."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from tuner.report.console import say, show, table, words

HOSTILE = {
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x1b[2J\x1b[31mred": "\\x1b[2J\\x1b[31mred",
    "\x9b31m": "\\x9b31m",
    "one\rtwo": "one\\x0dtwo",
    "a\x00b\x08c\x7f": "a\\x00b\\x08c\\x7f",
    "[bold]not markup[/bold] [link=http://x]y[/link]": "[bold]not markup[/bold] [link=http://x]y[/link]",
    "user\u202etxt.exe": "user\\u202etxt.exe",
    ":bomb:": ":bomb:",
}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_is_shown_as_it_is(text: str, terminal: bool) -> None:
    for given in (text, Text.assemble("", (text, ""))):
        out = io.StringIO()
        say(Console(file=out, width=200, force_terminal=terminal), given, whole=True)
        assert HOSTILE[text] in out.getvalue() or isinstance(given, Text)
        assert not set(out.getvalue()) & set("\x1b\x9b\x07\x08\x00\x7f\u202e\r")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_is_shown_as_it_is(text: str) -> None:
    out = io.StringIO()
    made = table(text, [words(text), "figure"], [(text, Text(text))])
    show(Console(file=out, width=200), made)
    assert out.getvalue().count(HOSTILE[text]) >= 3
    assert not set(out.getvalue()) & set("\x1b\x9b\x07\x08\x00\x7f\u202e\r")


def test_lines_and_tabs_stay() -> None:
    out = io.StringIO()
    say(Console(file=out, width=200), "a\n\tb", whole=True)
    assert out.getvalue().split() == ["a", "b"]
    assert out.getvalue().count("\n") == 2
