"""What each command does: configuration in, exit code out."""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from serving import models
from serving.engines import External
from serving.launch import executable
from tuner.cluster import ClusterError, connected, local_capacity
from tuner.config import (
    ConfigError,
    StudyConfig,
    compose_yaml,
    load,
    load_saved,
    multirun,
    save,
    single,
)
from tuner.display import Display
from tuner.ledger import Ledger, LedgerError
from tuner.plan import show_plan
from tuner.report import show_report
from tuner.study import ResumeError, Study, interruptible
from tuner.tracking import Tracker, mirror, ui_command

NOTHING_FEASIBLE, INTERRUPTED = 3, 130


class Missing(Exception):
    """Something this machine or cluster lacks. One line, with what to do."""


def tune(arguments: argparse.Namespace) -> int:
    if arguments.multirun:
        jobs = multirun(arguments.overrides, arguments.config_dir)
        return max((_tune(arguments, job) for job in jobs), default=0)
    return _tune(arguments, arguments.overrides)


def bench(arguments: argparse.Namespace) -> int:
    if arguments.cfg:
        return _print_config(arguments)
    return run_study(single(load(arguments.overrides, arguments.config_dir)))


def plan(arguments: argparse.Namespace) -> int:
    if arguments.cfg:
        return _print_config(arguments)
    config = load(arguments.overrides, arguments.config_dir)
    show_plan(config, local_capacity(config.cluster), Console())
    return 0


def _tune(arguments: argparse.Namespace, overrides: list[str]) -> int:
    if arguments.cfg:
        return _print_config(arguments)
    config = load(overrides, arguments.config_dir)
    if arguments.dry_run:
        show_plan(config, local_capacity(config.cluster), Console())
        return 0
    return run_study(config)


def _print_config(arguments: argparse.Namespace) -> int:
    Console(soft_wrap=True, highlight=False).print(
        compose_yaml(arguments.overrides, arguments.config_dir), markup=False, end=""
    )
    return 0


def run_study(config: StudyConfig, folder: Path | None = None) -> int:
    """Runs a study to its end, new or resumed, and reports. Returns the exit code."""
    console = Console()
    check_machine(config)
    folder = folder or new_folder(config)
    try:
        with (
            Ledger.open(folder) as ledger,
            Tracker(config, folder) as tracker,
            connected(config.cluster) as capacity,
            Display(config, capacity.slots(config.topology), console) as display,
        ):
            from tuner.slots import run_trials

            study = Study(config, ledger, [display, tracker])
            with interruptible(study):
                run_trials(study, capacity, display.watch)
            stopped = study.remaining() > 0 and study.closed
    except (ClusterError, LedgerError) as error:
        raise Missing(str(error)) from error
    except ResumeError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        console.print(f"stopped; go on with: wattfront resume {folder}", style="yellow")
        return INTERRUPTED
    feasible = show_report(folder, config, console)
    console.print(f"MLflow: {ui_command(config, folder)}", soft_wrap=True, highlight=False)
    if stopped:
        console.print(f"stopped; go on with: wattfront resume {folder}", style="yellow")
        return INTERRUPTED
    return 0 if feasible else NOTHING_FEASIBLE


def check_machine(config: StudyConfig) -> None:
    """Raises LaunchError for what this machine lacks, before a device is taken."""
    if config.cluster.kind == "local":
        for engine in config.engine.values():
            if not isinstance(engine, External):
                executable(engine)
                models.locate(config.model.source, engine.model_format)


def report(arguments: argparse.Namespace) -> int:
    folder = find_study(arguments.study)
    config = load_saved(folder)
    if arguments.to_mlflow:
        mirror(folder, config)
    feasible = show_report(folder, config, Console())
    return 0 if feasible else NOTHING_FEASIBLE


def resume(arguments: argparse.Namespace) -> int:
    folder = find_study(arguments.study)
    return run_study(load_saved(folder), folder)


def find_study(name: Path) -> Path:
    """The folder of a study by path, or by name under ./studies. Raises Missing."""
    for folder in (name, Path("studies") / name):
        if (folder / "study.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in Path("studies").glob("*/study.yaml"))
    hint = f"; under ./studies there are: {', '.join(known)}" if known else ""
    raise Missing(f"no study at {name} (a study is a folder with a study.yaml){hint}")


def new_folder(config: StudyConfig) -> Path:
    """studies/NAME-DATE-TIME, with the resolved configuration in it."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", config.name)
    folder = Path(config.output_dir).absolute() / f"{name}-{stamp}"
    for attempt in range(1, 100):
        candidate = folder if attempt == 1 else folder.with_name(f"{folder.name}-{attempt}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        save(config, candidate)
        return candidate
    raise Missing(f"{folder} and 98 others exist already")
