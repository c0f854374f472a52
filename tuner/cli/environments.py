"""The commands about this machine: engine environments, models, and what is missing."""

import argparse
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from serving.engines import ENGINES
from serving.engines.flags.extraction.extract import extract
from serving.engines.flags.extraction.source import source_of
from serving.engines.flags.schema import chosen, own_folder
from serving.install import environments, models
from serving.install.doctor import checks
from tuner.cli.exit_codes import ExitCode
from tuner.config.errors import ConfigError, suggestion
from tuner.report.console import say, show, table, words
from tuner.study.joining.exposure import cluster_check

STATE_COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}


def engines(arguments: argparse.Namespace) -> int:
    """Lists the engines' environments, installs one, or extracts the flags of a version."""
    console = Console()
    if arguments.action == "list":
        installed = environments.installed()
        rows = [
            (
                recipe.name,
                recipe.engine,
                recipe.version if recipe.name in installed else "no",
                recipe.about,
                str(installed.get(recipe.name) or ""),
            )
            for recipe in environments.RECIPES.values()
        ]
        headers = "environment", "engine", "installed"
        columns = [*map(words, headers), words("about", wraps=True), words("where", wraps=True)]
        show(console, table("", columns, rows))
        return ExitCode.DONE
    if arguments.action == "schema":
        return _extract(arguments.name, console)
    _one_of("environment", arguments.name, environments.RECIPES)
    try:
        pip_args = shlex.split(arguments.pip_args)
    except ValueError as error:
        raise ConfigError(f"--pip-args={arguments.pip_args}: {error}") from error
    with _progress(console, f"installing {arguments.name}") as report:
        where = environments.install(arguments.name, report, pip_args=pip_args)
    say(console, f"{arguments.name}: {where}", whole=True)
    return ExitCode.DONE


def _extract(what: str | None, console: Console) -> int:
    """Writes the flags of a wheel or an installation where they count as known."""
    if what is None:
        raise ConfigError("which flags? the path of a wheel, or of an engine's executable")
    found = extract(source_of(what))
    before = chosen(found.framework, found.version)
    path = own_folder() / f"{found.framework}-{found.version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json(indent=1, exclude_defaults=True))
    say(console, f"{found.title}: {len(found.flags)} flags, written to {path}", whole=True)
    if before is not None:
        new = " ".join(sorted(set(found.flags) - set(before.schema.flags))) or "none"
        gone = " ".join(sorted(set(before.schema.flags) - set(found.flags))) or "none"
        text = f"against {before.schema.version}: new {new}; gone {gone}"
        say(console, text, whole=True)
    return ExitCode.DONE


def fetch_models(arguments: argparse.Namespace) -> int:
    """Lists the models that can be fetched, or fetches one."""
    console = Console()
    if arguments.action == "list":
        for name, source in models.SOURCES.items():
            say(console, f"{name}: {source.description}")
        return ExitCode.DONE
    _one_of("model", arguments.name, models.SOURCES)
    with _progress(console, f"fetching {arguments.name}") as report:
        where = models.fetch(arguments.name, arguments.format, report)
    say(console, f"{arguments.name} ({arguments.format}): {where}", whole=True)
    return ExitCode.DONE


def doctor(arguments: argparse.Namespace) -> int:
    """Shows what this machine has and lacks. Returns MISSING if a named engine lacks something."""
    for name in arguments.engine:
        _one_of("engine", name, ENGINES)
    found = [cluster_check(), *checks(arguments.engine or list(ENGINES))]
    columns = [words(""), *(words(header, wraps=True) for header in ("what", "found", "fix"))]
    rows = [
        (Text(check.state, style=STATE_COLOURS[check.state]), check.name, check.found, check.fix)
        for check in found
    ]
    show(Console(), table("", columns, rows))
    missing = any(check.state == "missing" for check in found) and bool(arguments.engine)
    return ExitCode.MISSING if missing else ExitCode.DONE


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Reports steps: in one line that changes on a terminal, elsewhere in a line each."""
    if console.is_terminal:
        with console.status(Text(what)) as status:
            yield lambda step: status.update(Text(step))
    else:
        yield lambda step: say(console, step)


def _one_of(what: str, name: str | None, known: Iterable[str]) -> None:
    if name is None:
        raise ConfigError(f"which {what}? {suggestion('', known, f'{what}s')}")
    if name not in known:
        raise ConfigError(f"there is no {what} {name!r}; {suggestion(name, known, f'{what}s')}")
