"""The commands about this machine: its engines, its models, and what it lacks."""

import argparse
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.engines import ENGINES
from serving.install import environments, models
from serving.install.doctor import Check, checks
from tuner.config.errors import ConfigError, suggestion

OK, LACKING = 0, 4


def engines(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if arguments.action == "list":
        table = Table(box=None, header_style="bold")
        for column in ("environment", "engine", "installed", "where"):
            table.add_column(column)
        for recipe in environments.RECIPES.values():
            found = environments.installed().get(recipe.name)
            table.add_row(
                recipe.name, recipe.engine, recipe.version if found else "no", str(found or "")
            )
        console.print(table)
        return OK
    _one_of("environment", arguments.name, environments.RECIPES)
    try:
        pip_args = shlex.split(arguments.pip_args)
    except ValueError as error:
        raise ConfigError(f"--pip-args={arguments.pip_args}: {error}") from error
    with _telling(console, f"installing {arguments.name}") as say:
        where = environments.install(arguments.name, say, pip_args=pip_args)
    console.print(f"{arguments.name}: {where}", soft_wrap=True, markup=False)
    return OK


def fetch_models(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if arguments.action == "list":
        for name, source in models.SOURCES.items():
            console.print(f"{name}: {source.description}", soft_wrap=True)
        return OK
    _one_of("model", arguments.name, models.SOURCES)
    with _telling(console, f"fetching {arguments.name}") as say:
        where = models.fetch(arguments.name, arguments.format, say)
    console.print(f"{arguments.name} ({arguments.format}): {where}", soft_wrap=True, markup=False)
    return OK


def doctor(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    for name in arguments.engine:
        _one_of("engine", name, ENGINES)
    found = checks(arguments.engine or list(ENGINES))
    console.print(_table(found))
    lacking = any(check.state == "missing" for check in found) and bool(arguments.engine)
    return LACKING if lacking else OK


def _table(found: list[Check]) -> Table:
    colours = {"ok": "green", "warn": "yellow", "missing": "red"}
    table = Table(box=None, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in found:
        mark = Text(check.state, style=colours[check.state])
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.fix))
    return table


@contextmanager
def _telling(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """How far it is: a line that changes on a terminal, a line for each step elsewhere."""
    if console.is_terminal:
        with console.status(Text(what)) as status:
            yield lambda step: status.update(Text(step))
    else:
        yield lambda step: console.print(step, soft_wrap=True, markup=False)


def _one_of(what: str, name: str | None, known: Iterable[str]) -> None:
    if name is None:
        raise ConfigError(f"which {what}? {suggestion('', known, f'{what}s')}")
    if name not in known:
        raise ConfigError(f"there is no {what} {name!r}; {suggestion(name, known, f'{what}s')}")
