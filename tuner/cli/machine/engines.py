"""`wattfront engines`: lists, installs, removes and downloads environments; reads flags of a version."""

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from serving.engines.flags.extraction.extract import extract
from serving.engines.flags.extraction.source import source_of
from serving.engines.flags.schema import chosen, own_folder
from serving.install import environments
from serving.install.environments import Environment
from serving.install.lock import Lock, read_lock
from serving.install.packages import wheelhouse
from serving.install.packages.pip import InstallError
from serving.install.packages.recipes import RECIPES
from serving.install.packages.spec import EngineSpec, spec_of
from tuner.cli.exit_codes import ExitCode
from tuner.cli.machine.shown import one_of, progress, size
from tuner.config.errors import ConfigError
from tuner.report.console import Column, say, show, table, words

SHORT = 12  # characters of a digest that are shown
HEADERS: Sequence[Column | str] = (
    words("environment"),
    words("version"),
    "size",
    words("python"),
    words("lock"),
    words("used last"),
    words("where", wraps=True),
)


def engines(arguments: argparse.Namespace) -> int:
    """Runs the action."""
    console = Console()
    match arguments.action:
        case "list":
            _list(console)
        case "schema":
            _extract(arguments.name, console)
        case "remove":
            spec = _spec(arguments.name)
            where = environments.remove(spec.name, spec.version)
            say(console, f"{_title(spec)}: removed {where}", whole=True)
        case "download":
            _download(arguments, console)
        case _:
            _install(arguments, console)
    return ExitCode.DONE


def _install(arguments: argparse.Namespace, console: Console) -> None:
    spec, (pip_args, lock) = _spec(arguments.name), _sources(arguments)
    if arguments.wheelhouse is not None:
        offline, found = wheelhouse.offline(arguments.wheelhouse, spec)
        pip_args, lock = (*pip_args, *offline), lock or found
    with progress(console, f"installing {_title(spec)}") as report:
        where = environments.install(
            spec.name,
            report,
            pip_args=(*spec.pip_args, *pip_args),
            version=spec.version,
            lock=lock,
        )
    say(console, f"{_title(spec)}: {where}", whole=True)


def _download(arguments: argparse.Namespace, console: Console) -> None:
    spec, (pip_args, lock) = _spec(arguments.name), _sources(arguments)
    if arguments.to is None:
        raise ConfigError("engines download: into which folder? --to FOLDER")
    target = wheelhouse.Target(tuple(arguments.platform), arguments.python)
    with progress(console, f"downloading {_title(spec)}") as report:
        wheelhouse.download(spec, arguments.to, report, pip_args, target, lock)
    total = size(sum(path.stat().st_size for path in arguments.to.iterdir() if path.is_file()))
    command = shlex.join(
        ["wattfront", "engines", "install", arguments.name, "--wheelhouse", str(arguments.to)]
    )
    say(console, f"{arguments.to}: {total}; there: {command}", whole=True)


def _sources(arguments: argparse.Namespace) -> tuple[tuple[str, ...], Lock | None]:
    """Further arguments for pip, and the lock that was given."""
    try:
        pip_args = tuple(shlex.split(arguments.pip_args))
    except ValueError as error:
        raise ConfigError(f"--pip-args={arguments.pip_args}: {error}") from error
    lock = None if arguments.lock is None else read_lock(Path(arguments.lock))
    return pip_args, lock


def _spec(text: str | None) -> EngineSpec:
    if text is None:
        one_of("environment", None, RECIPES)
    try:
        spec = spec_of(str(text))
    except InstallError as error:
        raise ConfigError(str(error)) from error
    one_of("environment", spec.name, RECIPES)
    return spec


def _title(spec: EngineSpec) -> str:
    return f"{spec.name} {spec.version or environments.recipe_of(spec.name).version}"


def _list(console: Console) -> None:
    found = environments.every()
    show(console, table("", HEADERS, [_row(each) for each in found]))
    here = {each.name for each in found}
    rows = [(r.name, r.version, r.about) for r in RECIPES.values() if r.name not in here]
    if rows:
        columns = [words("not installed"), words("version"), words("about", wraps=True)]
        show(console, table("", columns, rows))


def _row(one: Environment) -> tuple[str, ...]:
    record, last = one.record, one.used_unix_s
    taken = record.size_bytes or environments.size_of(one.folder)
    used = "never" if last is None else time.strftime("%Y-%m-%d", time.localtime(last))
    where = f"{one.folder}: {fault}" if (fault := one.fault) else str(one.folder)
    return (
        one.name, one.version, size(taken), record.python or "?",
        record.lock_sha256[:SHORT] or "none", used, where,
    )  # fmt: skip


def _extract(what: str | None, console: Console) -> None:
    """Writes the flags of a wheel, a tree or an installation where they count as known."""
    if what is None:
        raise ConfigError(
            "which flags? the path of a wheel, a source tree or an engine's executable"
        )
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
