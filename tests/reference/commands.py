"""The help texts of every command: docs/reference/commands.md."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from loadgen.cli.args import parser as loadgen_parser
from tests.reference.markdown import fenced, link, page
from tuner.cli.parser import parser

INTRO = """What `wattfront COMMAND --help` prints. `wattfront` is also `python -m tuner`. Overrides are those of
[configuration.md](configuration.md); exit codes are in [exit_codes.md](exit_codes.md)."""
COLUMNS = 80
VERSION = (3, 11)  # of Python: later ones lay their help texts out otherwise


def markdown() -> str:
    """The page."""
    root, loadgen = parser(), loadgen_parser()
    sections = [(sub.prog, sub) for sub in subcommands(root).values()]
    named = [(root.prog, root), *sections, (loadgen.prog, loadgen)]
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
