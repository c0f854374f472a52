"""The commands that run, plan or report a study: configuration in, exit code out."""

import argparse
import os
import shlex
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from rich.console import Console

from tuner.cli.configured.composed import each_study, root_of
from tuner.cli.endpoint import bench_words, check_endpoint, is_url, with_endpoint
from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.folders import SIMULATED, find_study, new_folder, save_workers, saved_workers
from tuner.cli.interrupt import interruptible
from tuner.cli.machine.prepare import prepare_cluster, prepare_machine
from tuner.cli.preflight import (
    check_data,
    check_flags,
    check_machine,
    check_nodes,
    check_one_engine,
    check_open_files,
    check_placement,
    check_search,
    check_tracking,
    limit_layouts,
)
from tuner.config.errors import ConfigError
from tuner.config.load import check_files, check_secrets, load_saved
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
    _refuse_url(arguments)
    return each_study(arguments, _show_plan if arguments.dry_run else run_study)


def bench(arguments: argparse.Namespace) -> int:
    """Measures one configuration, or a server that runs already: a study of one trial."""
    url, arguments.overrides = bench_words(arguments.overrides)
    said = dict[str, None]()

    def asked(job: Sequence[str]) -> Sequence[str]:
        words, line = with_endpoint(job, arguments.config_dir, root_of(arguments))
        if line not in said:
            say(Console(), line, whole=True)
        said[line] = None
        return words

    return each_study(arguments, lambda config: run_study(single(config)), asked if url else list)


def simulate(arguments: argparse.Namespace) -> int:
    """Runs a study of an emulated machine on the virtual clock."""
    _refuse_url(arguments)
    return each_study(arguments, partial(_simulate_new, arguments))


def plan(arguments: argparse.Namespace) -> int:
    """Prints what a study would do."""
    _refuse_url(arguments)
    return each_study(arguments, _show_plan)


def _refuse_url(arguments: argparse.Namespace) -> None:
    if url := next((word for word in arguments.overrides if is_url(word)), ""):
        raise ConfigError(
            f"{url}: a server that runs already is measured by `wattfront bench {url}`"
        )


def _show_plan(config: StudyConfig) -> int:
    check_tracking(config)
    console = Console()
    warned = check_flags(config)
    show_plan(config, console)
    for line in warned:
        say(console, line, "yellow", whole=True)
    return ExitCode.DONE


def _simulate_new(arguments: argparse.Namespace, config: StudyConfig) -> int:
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
            link = mirror(folder, config)
        except TrackingError as error:
            raise Missing(f"MLflow: {error}") from error
        _say_mlflow(config, folder, Console(), link)
    return code


def report(arguments: argparse.Namespace) -> int:
    """Prints the tables of a study and draws its plots, from its ledger."""
    folder = find_study(arguments.study)
    config, console, link = load_saved(folder), Console(), ""
    try:
        feasible = show_report(folder, config, console)
        if arguments.to_mlflow:
            check_secrets(config)
            check_tracking(config)
            link = mirror(folder, config)
    except LedgerError as error:
        raise Missing(str(error)) from error
    except TrackingError as error:
        raise Missing(f"MLflow: {error}") from error
    _say_mlflow(config, folder, console, link)
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
    _before_ray(config, console)
    folder = folder or new_folder(config)
    trials = counted(config.search.trials, "trial")
    say(console, f"study {folder}: starting Ray, {trials}", whole=True)
    try:
        with (
            Ledger.open(folder) as ledger,
            # Before the tracker: MLflow needs variables that Ray's processes must not get.
            connected(config.cluster, needed_by_ray(config), tell) as capacity,
            Tracker(config, folder) as tracker,
            Display(config, capacity.slots(config.reserves), console) as display,
        ):
            from tuner.study.ray_tune import run_trials

            if not ledger.entries():
                check_placement(config, capacity)
            prepare_cluster(config, tell)
            if not ledger.entries():
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
    _say_mlflow(config, folder, console, tracker.link)
    return _interrupted(folder, console) if stopped else _code(feasible)


def _before_ray(config: StudyConfig, console: Console) -> None:
    """Raises ConfigError or Missing for what would fail later, on devices that are held by then."""
    check_one_engine(config)
    check_open_files()
    check_search(config)
    check_tracking(config)
    _say_data(config, console)
    check_machine(config)
    prepare_machine(config, console)
    for line in check_flags(config):
        say(console, line, "yellow", whole=True)
    if config.cluster.kind == "local":  # elsewhere only the nodes may reach it
        check_endpoint(config)
    for line in open_engines(config):
        say(console, line, "yellow", whole=True)


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


def _say_data(config: StudyConfig, console: Console) -> None:
    for line in check_data(config):
        say(console, line, "yellow", whole=True)


def _say_mlflow(config: StudyConfig, folder: Path, console: Console, link: str = "") -> None:
    say(console, f"MLflow: {ui_command(config, folder, link)}", whole=True)


def _code(feasible: bool) -> int:
    return ExitCode.DONE if feasible else ExitCode.NOTHING_FEASIBLE


def _again(folder: Path) -> str:
    return shlex.join(["wattfront", "resume", str(folder)])


def _interrupted(folder: Path, console: Console) -> int:
    say(console, f"stopped; continue with: {_again(folder)}", "yellow", whole=True)
    return ExitCode.INTERRUPTED
