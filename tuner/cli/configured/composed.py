"""The studies that a command line describes, each handed to its command; or printed."""

import argparse
from collections.abc import Callable, Sequence

from rich.console import Console

from tuner.cli.exit_codes import ExitCode
from tuner.config.compose import (
    DEFAULT_EXPERIMENT,
    ROOT,
    compose,
    compose_yaml,
    info,
    multirun,
    takes_default,
    to_yaml,
)
from tuner.config.errors import ConfigError
from tuner.config.load import load
from tuner.config.study import StudyConfig
from tuner.report.console import say

Loads = Callable[[Sequence[str]], StudyConfig]


def each_study(
    arguments: argparse.Namespace,
    run: Callable[[StudyConfig], int],
    completed: Callable[[Sequence[str]], Sequence[str]] = list,
) -> int:
    """Runs the study of the overrides, or with --multirun several in turn. Returns the worst exit code.

    `completed`: adds to the overrides what has to be found out. Every study is validated before the first runs.
    """
    words = arguments.overrides
    jobs = multirun(words, arguments.config_dir) if arguments.multirun else [list(words)]
    if (shown := _shown(arguments)) is not None:
        for job, text in [(job, shown(job)) for job in jobs]:
            _say_job(arguments, job)
            say(Console(), text, whole=True)
        return ExitCode.DONE
    jobs = [list(completed(job)) for job in jobs]
    if len(jobs) > 1:
        for job in jobs:  # so that the last one's mistakes are found before the first one runs
            _load(arguments, job)
    worst: int = ExitCode.DONE
    for job in jobs:
        _say_job(arguments, job)
        config = _load(arguments, job)
        _say_default(arguments, job)
        code = run(config)
        if code == ExitCode.INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def root_of(arguments: argparse.Namespace) -> str:
    """The root configuration: conf/config.yaml, or the one of --config-name."""
    return str(arguments.config_name or ROOT).removesuffix(".yaml")


def _load(arguments: argparse.Namespace, job: Sequence[str]) -> StudyConfig:
    return load(job, arguments.config_dir, root_of(arguments))


def _shown(arguments: argparse.Namespace) -> Callable[[Sequence[str]], str] | None:
    """What --cfg and --info print of a job; None without them."""
    where = arguments.config_dir, root_of(arguments)
    if arguments.info:
        return lambda job: info(arguments.info, job, *where)
    if arguments.resolve and not arguments.cfg:
        raise ConfigError("--resolve: it is an option of --cfg job")
    if arguments.resolve:
        return lambda job: to_yaml(compose(job, *where)).rstrip("\n")
    if arguments.cfg:
        return lambda job: compose_yaml(job, *where).rstrip("\n")
    return None


def _say_job(arguments: argparse.Namespace, job: Sequence[str]) -> None:
    if arguments.multirun:
        say(Console(), f"# {' '.join(job)}", "bold", whole=True)


def _say_default(arguments: argparse.Namespace, job: Sequence[str]) -> None:
    if takes_default(job, root_of(arguments)):
        line = f"experiment={DEFAULT_EXPERIMENT}, as none is chosen (`wattfront list experiment`)"
        say(Console(stderr=True), line, "yellow", whole=True)
