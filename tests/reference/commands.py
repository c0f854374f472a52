"""The help texts and exit codes of every command: docs/reference/{commands,exit_codes}.md."""

import argparse
import ast
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager

import loadgen.__main__
from loadgen.cli.args import parser as loadgen_parser
from tests.reference.markdown import code, fenced, link, page, table
from tuner.cli.exit_codes import MEANINGS
from tuner.cli.parser import parser

INTRO = """What `wattfront COMMAND --help` prints. `wattfront` is also `python -m tuner`. Overrides are those of
[configuration.md](configuration.md); exit codes are in [exit_codes.md](exit_codes.md)."""
CODES_INTRO = """Of several studies (`wattfront tune --multirun`) the highest code is reported."""
LOADGEN_CODES = {
    0: "done",
    1: "the endpoint can't be reached or fails, or the load ended before its last level",
    2: "invalid arguments or workload, or a file that can't be read or written",
    130: "interrupted",
}
COLUMNS = 80
VERSION = (3, 11)  # of Python: later ones lay their help texts out otherwise


def markdown() -> str:
    """The page."""
    root, own = parser(), loadgen_parser()
    sections = [(sub.prog, sub) for sub in subcommands(root).values()]
    named = [(root.prog, root), *sections, (own.prog, own)]
    return page(
        "Commands",
        INTRO,
        " · ".join(link(name) for name, _ in named),
        *(part for name, each in named for part in (f"## {name}", fenced(_help(each), "text"))),
    )


def subcommands(root: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name → parser of each command."""
    return {
        name: sub
        for action in root._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, sub in action.choices.items()
    }


def _help(of: argparse.ArgumentParser) -> str:
    with _wide(COLUMNS):
        return of.format_help()


@contextmanager
def _wide(columns: int) -> Iterator[None]:
    """The width of the terminal as argparse sees it."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def exit_codes() -> str:
    """The page of exit codes."""
    return page(
        "Exit codes",
        "## wattfront",
        CODES_INTRO,
        table(
            ("code", "name", "meaning"), [(code(c.value), c.name, m) for c, m in MEANINGS.items()]
        ),
        "## python -m loadgen",
        table(
            ("code", "meaning"), [(code(number), text) for number, text in LOADGEN_CODES.items()]
        ),
    )


def returned_by_loadgen() -> set[int]:
    """The codes that stand in the load generator's `main`."""
    tree = ast.parse(inspect.getsource(loadgen.__main__.main))
    returned = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value
    ]
    return {
        constant.value
        for value in returned
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, int)
    }
