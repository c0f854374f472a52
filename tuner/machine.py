"""The commands about this machine: its engines, its models, and what it lacks."""

import argparse
import shlex

from rich.console import Console
from rich.table import Table

from serving import environments, models
from serving.doctor import Check, checks
from serving.engines import ENGINES

OK, LACKING, USAGE = 0, 4, 2


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
    if arguments.name not in environments.RECIPES:
        return _usage(console, "environment", arguments.name, list(environments.RECIPES))
    with console.status(f"installing {arguments.name}") as status:
        where = environments.install(
            arguments.name, status.update, pip_args=shlex.split(arguments.pip_args)
        )
    console.print(f"{arguments.name}: {where}", soft_wrap=True)
    return OK


def fetch_models(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if arguments.action == "list":
        for name, source in models.SOURCES.items():
            console.print(f"{name}: {source.description}", soft_wrap=True)
        return OK
    if arguments.name not in models.SOURCES:
        return _usage(console, "model", arguments.name, list(models.SOURCES))
    with console.status(f"fetching {arguments.name}") as status:
        where = models.fetch(arguments.name, arguments.format, status.update)
    console.print(f"{arguments.name} ({arguments.format}): {where}", soft_wrap=True)
    return OK


def doctor(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    unknown = [name for name in arguments.engine if name not in ENGINES]
    if unknown:
        return _usage(console, "engine", unknown[0], list(ENGINES))
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
        mark = f"[{colours[check.state]}]{check.state}[/]"
        table.add_row(mark, check.name, check.found, check.fix or "")
    return table


def _usage(console: Console, what: str, name: str | None, known: list[str]) -> int:
    console.print(
        f"wattfront: {'no' if name is None else 'unknown'} {what}{f' {name!r}' if name else ''}: "
        f"one of {', '.join(known)}",
        style="red",
    )
    return USAGE
