"""The one way to print a line, and the one table, of every section, command and observer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 8  # columns that one which wraps has at least, however narrow the screen
Cell = str | Text
# What a terminal would obey: control characters, and marks that change the direction of text.
_CONTROL = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(9),
        *range(11, 32),
        *range(127, 160),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}


def visible(text: Cell) -> Cell:
    """The text with its control characters as escapes: ledgers, logs and answers come from anywhere."""
    if isinstance(text, str):
        return text.translate(_CONTROL)
    plain = text.plain.translate(_CONTROL)
    return text if plain == text.plain else Text(plain, style=text.style)


def say(console: Console, text: Cell, style: str = "", *, whole: bool = False) -> None:
    """Prints a line as it is: brackets are no markup, numbers get no colour.

    A terminal shows it wrapped between words; in a pipe it is one line. `whole`: one line on a terminal too,
    for commands and paths that are copied.
    """
    console.print(
        visible(text), style=style, markup=False, highlight=False, emoji=False,
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
    filled = [[_text(cell) for cell in row] for row in rows]
    made = Table(
        title=Text(title.translate(_CONTROL), style="bold") if title else None,
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for i, column in enumerate(named):
        lines = [column.header, *(row[i].plain for row in filled)]
        natural = max(cell_len(line) for each in lines for line in each.split("\n"))
        made.add_column(
            _text(column.header),
            justify="left" if column.left else "right",
            no_wrap=not column.wraps,
            overflow="fold",
            width=column.width,
            min_width=min(natural, NARROW) if column.wraps else natural,
        )
    for row in filled:
        made.add_row(*row)
    return made


def _text(cell: Cell) -> Text:
    shown = visible(cell)
    return Text(shown) if isinstance(shown, str) else shown


def show(console: Console, made: Table, *, gap: bool = True) -> None:
    """Prints a table, and with `gap` an empty line after it."""
    console.print(made, crop=False)
    if gap:
        console.print()
