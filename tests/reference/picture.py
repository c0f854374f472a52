"""Draws the rooms of the three packages, top to bottom as they may import, as SVG."""

import ast
import textwrap
from collections.abc import Iterator
from html import escape

from tests.modules import SOURCES
from tests.test_architecture import ROOMS

WIDTH, GAP, HEAD, LINE, PAD = 372, 26, 62, 15, 9
LETTERS = 53  # of a line of description
COLOURS = {"tuner": "#4063d8", "serving": "#389826", "loadgen": "#9558b2"}
SUBTITLES = {
    "tuner": "studies: composes the other two",
    "serving": "engines and machines",
    "loadgen": "HTTP and arithmetic",
}
RULES = (
    "A module imports from its own room and those below.",
    "tuner imports serving and loadgen, which do not know",
    "each other: a base URL and a model name pass between.",
    "conf/ is data. Engines are command lines: nothing",
    "imports their frameworks.",
)
OPEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
    'font-family="Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
)


def described(module: str) -> str:
    """The first paragraph of the module's docstring, without what a reader of the picture knows."""
    text = ast.get_docstring(ast.parse(SOURCES[module].read_text())) or ""
    return " ".join(text.split("\n\n")[0].replace("`", "").replace(" Pure.", "").split())


def rooms(package: str) -> Iterator[tuple[str, str]]:
    """(name, description) of each room that is a folder."""
    for room in ROOMS[package]:
        name = f"{package}.{room}"
        if name in SOURCES and SOURCES[name].stem == "__init__":
            yield room.replace(".", "/"), described(name)


def svg() -> str:
    """The picture, three columns."""
    columns = [list(_column(package, i)) for i, package in enumerate(ROOMS)]
    height = max(y for column in columns for y, _ in column) + GAP
    width = len(ROOMS) * (WIDTH + GAP) + GAP
    parts = [part for column in columns for _, part in column]
    x, y = GAP + 2 * (WIDTH + GAP), height - LINE * len(RULES) - GAP
    parts += [_text(x, y + 17 * i, line, 13, "#111") for i, line in enumerate(RULES)]
    return OPEN.format(w=width, h=height) + "\n" + "\n".join(parts) + "\n</svg>\n"


def _column(package: str, place: int) -> Iterator[tuple[int, str]]:
    """(where it ends, element) of each box of a package."""
    x, y, colour = GAP + place * (WIDTH + GAP), HEAD, COLOURS[package]
    yield y, _text(x, 30, f"{package}/", 20, colour, bold=True)
    yield y, _text(x, 50, SUBTITLES[package], 13, "#555")
    for name, description in rooms(package):
        lines = textwrap.wrap(description, LETTERS)
        height = 2 * PAD + 16 + LINE * len(lines)
        yield (
            y + height,
            (
                f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="6" '
                f'fill="{colour}14" stroke="{colour}"/>'
            ),
        )
        yield y, _text(x + PAD, y + PAD + 11, f"{name}/", 14, "#111", bold=True)
        for i, line in enumerate(lines):
            yield y, _text(x + PAD, y + PAD + 28 + LINE * i, line, 12, "#333")
        y += height + 7


def _text(x: int, y: int, text: str, size: int, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x}" y="{y}" font-size="{size}" fill="{colour}"'
    return f"<text {place}{weight}>{escape(text)}</text>"
