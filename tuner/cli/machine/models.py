"""`wattfront models`: what can be fetched, what is here, and whether it is whole."""

import argparse
import os
from collections.abc import Sequence

from rich.console import Console

from serving.install import models
from serving.install.hub.cache import ModelCache, cached_models, is_hub_id
from serving.install.hub.fetch import fetch, verify
from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.machine.shown import one_of, progress, size
from tuner.config.errors import ConfigError
from tuner.report.console import Column, say, show, table, words

HEADERS: Sequence[Column | str] = (
    words("of a hub"),
    words("commit"),
    "size",
    words("files"),
    words("where", wraps=True),
)


def manage_models(arguments: argparse.Namespace) -> int:
    """Lists the models that can be fetched or are here, fetches one, or checks the files of one."""
    console = Console()
    if arguments.action == "list":
        _list(console)
        return ExitCode.DONE
    name, revision = _named(arguments.name, arguments.revision)
    if arguments.action == "verify":
        if not is_hub_id(name):
            raise ConfigError(f"models verify {name}: of a model of a hub, ORG/NAME")
        with progress(console, f"reading {name}"):
            lines = verify(name, revision)
        if lines:
            raise Missing(
                "\n".join([*lines, f"`wattfront models fetch {name}` fetches them again"])
            )
        say(console, f"{name}: every file has the size and hash of the hub")
        return ExitCode.DONE
    with progress(console, f"fetching {name}") as report:
        if is_hub_id(name):
            found = fetch(name, revision, report)
            line = f"{name} at {found.commit}: {size(found.size_bytes)}, {found.path}"
        else:
            where = models.fetch(name, arguments.format, report)
            line = f"{name} ({arguments.format}): {where}"
    say(console, line, whole=True)
    return ExitCode.DONE


def _named(text: str | None, revision: str | None) -> tuple[str, str | None]:
    """A name of ours, or ORG/NAME with the revision that may stand behind an @."""
    if text is None:
        one_of("model", None, models.SOURCES)
    name, at, behind = str(text).partition("@")
    if at and revision is not None:
        raise ConfigError(f"{text}: a revision twice: --revision {revision}")
    if not is_hub_id(name):
        one_of(
            "model", name, [*models.SOURCES, *(() if "/" not in name else ("ORG/NAME of a hub",))]
        )
        if at or revision:
            raise ConfigError(f"{name}: only a model of a hub has revisions")
    return name, behind or revision


def _list(console: Console) -> None:
    for name, source in models.SOURCES.items():
        say(console, f"{name}: {source.description}")
    rows = []
    for name in cached_models(os.environ):
        cache = ModelCache(name)
        for commit in cache.commits():
            whole = cache.complete(commit) == commit
            taken = sum(p.stat().st_size for p in cache.snapshot(commit).rglob("*") if p.is_file())
            state = "checked" if whole else "not checked"
            rows.append((name, commit[:12], size(taken), state, str(cache.snapshot(commit))))
    if rows:
        show(console, table("", HEADERS, rows))
