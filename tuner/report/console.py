"""The one way to print a line, and the one table, of every section, command and observer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 8  # columns that one which wraps has at least, however narrow the screen
Cell = str | Text


def say(console: Console, text: Cell, style: str = "", *, whole: bool = False) -> None:
    """Prints a line as it is: brackets are no markup, numbers get no colour.

    A terminal shows it wrapped between words; in a pipe it is one line. `whole`: one line on a terminal too,
    for commands and paths that are copied.
    """
    console.print(
        text, style=style, markup=False, highlight=False, emoji=False,
        soft_wrap=whole or not console.is_terminal,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """`left`: left-aligned. `wraps`: its cells may take several lines. `width`: None fits the cells."""

    header: str
    left: bool = False
    wraps: bool = False
    width: int | None = None


def words(header: str, *, wraps: bool = False) -> Column:
    """A left-aligned column."""
    return Column(header, left=True, wraps=wraps)


def table(title: str, columns: Iterable[Column | str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A plain string stands for a right-aligned column with this header. Brackets in cells are no markup.

    On a screen that is too narrow, columns that do not wrap keep their width, so that no figure is cut.
    """
    named = [Column(each) if isinstance(each, str) else each for each in columns]
    filled = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    made = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for i, column in enumerate(named):
        lines = [column.header, *(row[i].plain for row in filled)]
        natural = max(cell_len(line) for each in lines for line in each.split("\n"))
        made.add_column(
            Text(column.header),
            justify="left" if column.left else "right",
            no_wrap=not column.wraps,
            overflow="fold",
            width=column.width,
            min_width=min(natural, NARROW) if column.wraps else natural,
        )
    for row in filled:
        made.add_row(*row)
    return made


def show(console: Console, made: Table, *, gap: bool = True) -> None:
    """Prints a table, and with `gap` an empty line after it."""
    console.print(made, crop=False)
    if gap:
        console.print()
