"""One way to print: nothing is cut, nothing is markup, and one number has one notation."""

import io
import re

from rich.console import Console
from rich.text import Text

from tuner.metrics.notation import number
from tuner.report.console import Column, say, show, table, words

ROWS = (["vllm [x]", "a=1 source=nvidia/Llama-3.3-70B-Instruct-FP4", "1,234", "12.3k"],)
COLUMNS = (words("engine"), words("knobs", wraps=True), "tok/s\n/user", "TTFT\np99")


def printed(width: int, *, terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=terminal, color_system=None), out


def test_a_line_in_a_pipe_is_one_line() -> None:
    console, out = printed(20)
    say(console, "x [bold]y[/bold] :smile: " * 9)
    assert out.getvalue() == "x [bold]y[/bold] :smile: " * 9 + "\n"


def test_a_terminal_wraps_prose_but_no_command() -> None:
    console, out = printed(20, terminal=True)
    say(console, "word " * 9)
    assert max(map(len, out.getvalue().splitlines())) <= 20
    say(console, "command --with-a-long-flag=1 --and-another=2", whole=True)
    assert out.getvalue().endswith("\ncommand --with-a-long-flag=1 --and-another=2\n")


def test_on_a_narrow_screen_no_figure_is_cut() -> None:
    for width in (30, 50, 80):
        console, out = printed(width)
        show(console, table("Engines [all]", COLUMNS, ROWS))
        text = out.getvalue()
        assert "Engines [all]" in " ".join(text.split())
        assert re.search(r"vllm \[x\] .* 1,234 +12\.3k", text)
        assert "…" not in text
        letters = "".join(re.split(r"\s+", text))
        assert all(letter in letters for letter in "source=nvidia")
        assert text.endswith("\n\n")


def test_a_cell_has_its_own_style_and_lines() -> None:
    console, out = printed(60)
    cell = Text("4,147\n4,104 to 4,190", style="bold")
    show(console, table("", [Column("mean", width=20), words("name")], [[cell, "a"]]), gap=False)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[1:] == [f"{'4,147':>20}  a", f"{'4,104 to 4,190':>20}"]


def test_a_value_is_printed_alike_in_every_section() -> None:
    assert {number(12_345.0), number(12_345.4)} == {"12.3k"}
