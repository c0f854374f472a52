"""The commands that run, plan or report a study: configuration in, exit code out."""

import argparse
import os
import shlex
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from rich.console import Console

from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.folders import SIMULATED, find_study, new_folder, save_workers, saved_workers
from tuner.cli.interrupt import interruptible
from tuner.cli.preflight import (
    check_data,
    check_machine,
    check_nodes,
    check_one_engine,
    check_open_files,
    check_placement,
    check_search,
    check_tracking,
    limit_layouts,
)
from tuner.config.compose import compose_yaml, multirun
from tuner.config.errors import ConfigError
from tuner.config.load import check_files, check_secrets, load, load_saved
from tuner.config.resolve import single
from tuner.config.study import StudyConfig
from tuner.metrics.notation import counted
from tuner.report.console import say
from tuner.report.plan import show_plan
from tuner.report.progress import Display
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger, LedgerError, results
from tuner.study.capacity import ClusterError
from tuner.study.environment import needed_by_ray
from tuner.study.joining.exposure import open_engines
from tuner.study.local_pool import check_simulable
from tuner.study.local_pool import simulate as run_simulated
from tuner.study.ray_cluster import connected, watched_capacity
from tuner.study.study import ResumeError, Study
from tuner.tracking.mlflow import TrackingError
from tuner.tracking.observer import Tracker, mirror, ui_command


def tune(arguments: argparse.Namespace) -> int:
    """Runs a study, or with --multirun several in turn. Returns the worst exit code."""
    if not arguments.multirun:
        return _tune(arguments, arguments.overrides)
    jobs = multirun(arguments.overrides, arguments.config_dir)
    for job in jobs:  # so that the last one's mistakes are found before the first one runs
        (compose_yaml if arguments.cfg else load)(job, arguments.config_dir)
    worst: int = ExitCode.DONE
    for job in jobs:
        code = _tune(arguments, job, " ".join(job))
        if code == ExitCode.INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def bench(arguments: argparse.Namespace) -> int:
    """Measures one configuration: a study of one trial."""
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    return run_study(single(load(arguments.overrides, arguments.config_dir)))


def simulate(arguments: argparse.Namespace) -> int:
    """Runs a study of an emulated machine on the virtual clock."""
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    config = load(arguments.overrides, arguments.config_dir)
    check_simulable(config)
    check_search(config)
    if arguments.to_mlflow:
        check_tracking(config)
    _say_data(config, Console())
    folder = new_folder(config)
    workers = arguments.workers or len(os.sched_getaffinity(0))
    save_workers(folder, workers)
    code = _simulate(config, folder, workers)
    if arguments.to_mlflow and code != ExitCode.INTERRUPTED:
        try:
            mirror(folder, config)
        except TrackingError as error:
            raise Missing(f"MLflow: {error}") from error
        _say_mlflow(config, folder, Console())
    return code


def plan(arguments: argparse.Namespace) -> int:
    """Prints what a study would do."""
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    config = load(arguments.overrides, arguments.config_dir)
    check_tracking(config)
    show_plan(config, Console())
    return ExitCode.DONE


def report(arguments: argparse.Namespace) -> int:
    """Prints the tables of a study and draws its plots, from its ledger."""
    folder = find_study(arguments.study)
    config, console = load_saved(folder), Console()
    try:
        feasible = show_report(folder, config, console)
        if arguments.to_mlflow:
            check_secrets(config)
            check_tracking(config)
            mirror(folder, config)
    except LedgerError as error:
        raise Missing(str(error)) from error
    except TrackingError as error:
        raise Missing(f"MLflow: {error}") from error
    _say_mlflow(config, folder, console)
    return _code(feasible)


def resume(arguments: argparse.Namespace) -> int:
    """Continues a study that was stopped."""
    folder = find_study(arguments.study)
    config = load_saved(folder)
    check_secrets(config)
    check_files(config)
    if (folder / SIMULATED).exists():
        workers = arguments.workers or saved_workers(folder)
        return _simulate(config, folder, workers or len(os.sched_getaffinity(0)))
    if arguments.workers is not None:
        raise ConfigError("--workers: only simulated studies have worker processes")
    return run_study(config, folder)


def run_study(config: StudyConfig, folder: Path | None = None) -> int:
    """Runs a study to its end, new or resumed, and reports. Returns the exit code."""
    console = Console()
    tell = partial(say, console, whole=True)
    check_one_engine(config)
    check_open_files()
    check_search(config)
    check_tracking(config)
    _say_data(config, console)
    check_machine(config)
    for line in open_engines(config):
        say(console, line, "yellow", whole=True)
    folder = folder or new_folder(config)
    trials = counted(config.search.trials, "trial")
    say(console, f"study {folder}: starting Ray, {trials}", whole=True)
    try:
        with (
            Ledger.open(folder) as ledger,
            # Before the tracker: MLflow needs variables that Ray's processes must not get.
            connected(config.cluster, needed_by_ray(config), tell) as capacity,
            Tracker(config, folder) as tracker,
            Display(config, capacity.slots(config.topology), console) as display,
        ):
            from tuner.study.ray_tune import run_trials

            if not ledger.entries():
                check_placement(config, capacity)
                check_nodes(config)
            if note := limit_layouts(config, ledger, capacity):
                tell(note)
            display.already(ledger.results())
            study = Study(config, ledger, [display, tracker])
            if ledger.limits:
                study.limit(capacity.largest)
            with interruptible(study):
                run_trials(
                    study,
                    capacity,
                    display,
                    config.cluster.dead_after_s,
                    look=watched_capacity(config.cluster, capacity),
                    wait_s=config.cluster.wait_s,
                )
            study.conclude()
            stopped = study.remaining() > 0 and study.closed
    except ClusterError as error:
        if results(folder):
            show_report(folder, config, console)
            raise Missing(f"{error}; continue with: {_again(folder)}") from error
        raise Missing(str(error)) from error
    except LedgerError as error:
        raise Missing(str(error)) from error
    except ResumeError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        return _interrupted(folder, console)
    feasible = show_report(folder, config, console)
    _say_mlflow(config, folder, console)
    return _interrupted(folder, console) if stopped else _code(feasible)


def _simulate(config: StudyConfig, folder: Path, workers: int) -> int:
    console = Console()
    trials = counted(config.search.trials, "trial")
    say(console, f"study {folder}: {trials} on the virtual clock", whole=True)
    try:
        with Ledger.open(folder) as ledger, Display(config, workers, console) as display:
            display.already(ledger.results())
            study = Study(config, ledger, [display])
            with interruptible(study):
                run_simulated(study, workers)
            study.conclude()
    except LedgerError as error:
        raise Missing(str(error)) from error
    except BrokenProcessPool as error:
        raise Missing(
            f"a simulation process was killed, perhaps out of memory; continue with: {_again(folder)}"
        ) from error
    except ResumeError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        return _interrupted(folder, console)
    feasible = show_report(folder, config, console)
    if study.remaining() > 0 and study.closed:
        return _interrupted(folder, console)
    return _code(feasible)


def _tune(arguments: argparse.Namespace, overrides: list[str], one_of_many: str = "") -> int:
    if one_of_many:
        say(Console(), f"# {one_of_many}", "bold", whole=True)
    if arguments.cfg:
        return _print_config(arguments, overrides)
    config = load(overrides, arguments.config_dir)
    if arguments.dry_run:
        check_tracking(config)
        show_plan(config, Console())
        return ExitCode.DONE
    return run_study(config)


def _print_config(arguments: argparse.Namespace, overrides: list[str]) -> int:
    say(Console(), compose_yaml(overrides, arguments.config_dir).rstrip("\n"), whole=True)
    return ExitCode.DONE


def _say_data(config: StudyConfig, console: Console) -> None:
    for line in check_data(config):
        say(console, line, "yellow", whole=True)


def _say_mlflow(config: StudyConfig, folder: Path, console: Console) -> None:
    say(console, f"MLflow: {ui_command(config, folder)}", whole=True)


def _code(feasible: bool) -> int:
    return ExitCode.DONE if feasible else ExitCode.NOTHING_FEASIBLE


def _again(folder: Path) -> str:
    return shlex.join(["wattfront", "resume", str(folder)])


def _interrupted(folder: Path, console: Console) -> int:
    say(console, f"stopped; continue with: {_again(folder)}", "yellow", whole=True)
    return ExitCode.INTERRUPTED
