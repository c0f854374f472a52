"""What each command does: configuration in, exit code out."""

import argparse
import os
import re
import shlex
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from serving.engines import External
from serving.errors import LaunchError
from serving.install import models
from serving.launch import executable
from tuner.config.compose import compose_yaml, multirun
from tuner.config.errors import ConfigError
from tuner.config.load import check_files, files_of, load, load_saved, save
from tuner.config.resolve import single
from tuner.config.study import StudyConfig
from tuner.report.plan import known_trials, show_plan
from tuner.report.progress import Display
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger, LedgerError
from tuner.study.local_pool import check_simulable
from tuner.study.local_pool import simulate as run_simulated
from tuner.study.ray_cluster import Capacity, ClusterError, absent, connected, local_capacity
from tuner.study.study import ResumeError, Study, interruptible
from tuner.tracking.mlflow import TrackingError
from tuner.tracking.observer import Tracker, mirror, ui_command

NOTHING_FEASIBLE, INTERRUPTED = 3, 130
SIMULATED = "simulated"  # a file beside the ledger: the study runs on the virtual clock


class Missing(Exception):
    """What this machine or cluster lacks. A line for each thing, with what to do."""


def tune(arguments: argparse.Namespace) -> int:
    if not arguments.multirun:
        return _tune(arguments, arguments.overrides)
    jobs = multirun(arguments.overrides, arguments.config_dir)
    if not arguments.cfg:
        for job in jobs:  # so that the last one's mistakes are found before the first one runs
            load(job, arguments.config_dir)
    worst = 0
    for job in jobs:
        code = _tune(arguments, job, " ".join(job))
        if code == INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def bench(arguments: argparse.Namespace) -> int:
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    return run_study(single(load(arguments.overrides, arguments.config_dir)))


def simulate(arguments: argparse.Namespace) -> int:
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    config = load(arguments.overrides, arguments.config_dir)
    check_simulable(config)
    check_search(config)
    folder = new_folder(config)
    (folder / SIMULATED).touch()
    code = _simulate(config, folder, arguments.workers)
    if arguments.to_mlflow and code != INTERRUPTED:
        try:
            mirror(folder, config)
        except TrackingError as error:
            raise Missing(f"MLflow: {error}") from error
        _say(Console(), f"MLflow: {ui_command(config, folder)}")
    return code


def _simulate(config: StudyConfig, folder: Path, asked: int | None = None) -> int:
    console, workers = Console(), asked or len(os.sched_getaffinity(0))
    _say(console, f"study {folder}: {config.search.trials} trials on the virtual clock")
    try:
        with Ledger.open(folder) as ledger, Display(config, workers, console) as display:
            display.already(ledger.results())
            study = Study(config, ledger, [display])
            with interruptible(study):
                run_simulated(study, workers)
    except LedgerError as error:
        raise Missing(str(error)) from error
    except BrokenProcessPool as error:
        again = shlex.join(["wattfront", "resume", str(folder)])
        raise Missing(
            f"a process of the simulation was killed, for want of memory? {again}"
        ) from error
    except ResumeError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        return _interrupted(folder, console)
    feasible = show_report(folder, config, console)
    if study.remaining() > 0 and study.closed:
        return _interrupted(folder, console)
    return 0 if feasible else NOTHING_FEASIBLE


def plan(arguments: argparse.Namespace) -> int:
    if arguments.cfg:
        return _print_config(arguments, arguments.overrides)
    show_plan(load(arguments.overrides, arguments.config_dir), Console())
    return 0


def _tune(arguments: argparse.Namespace, overrides: list[str], one_of_many: str = "") -> int:
    if one_of_many:
        _say(Console(), f"# {one_of_many}", "bold")
    if arguments.cfg:
        return _print_config(arguments, overrides)
    config = load(overrides, arguments.config_dir)
    if arguments.dry_run:
        show_plan(config, Console())
        return 0
    return run_study(config)


def _print_config(arguments: argparse.Namespace, overrides: list[str]) -> int:
    _say(Console(), compose_yaml(overrides, arguments.config_dir).rstrip("\n"))
    return 0


def run_study(config: StudyConfig, folder: Path | None = None) -> int:
    """Runs a study to its end, new or resumed, and reports. Returns the exit code."""
    console = Console()
    check_one_engine(config)
    check_search(config)
    check_machine(config)
    folder = folder or new_folder(config)
    _say(console, f"study {folder}: starting Ray, {config.search.trials} trials")
    try:
        with (
            Ledger.open(folder) as ledger,
            Tracker(config, folder) as tracker,
            connected(config.cluster) as capacity,
            Display(config, capacity.slots(config.topology), console) as display,
        ):
            from tuner.study.ray_tune import run_trials

            check_placement(config, capacity)
            check_nodes(config)
            display.already(ledger.results())
            study = Study(config, ledger, [display, tracker])
            with interruptible(study):
                run_trials(study, capacity, display.watch)
            stopped = study.remaining() > 0 and study.closed
    except (ClusterError, LedgerError) as error:
        raise Missing(str(error)) from error
    except ResumeError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        return _interrupted(folder, console)
    feasible = show_report(folder, config, console)
    _say(console, f"MLflow: {ui_command(config, folder)}")
    if stopped:
        return _interrupted(folder, console)
    return 0 if feasible else NOTHING_FEASIBLE


def _interrupted(folder: Path, console: Console) -> int:
    again = shlex.join(["wattfront", "resume", str(folder)])
    _say(console, f"stopped; go on with: {again}", "yellow")
    return INTERRUPTED


def check_one_engine(config: StudyConfig) -> None:
    """Pools of engines exist on the virtual clock only. Raises ConfigError."""
    pooled = any(path.startswith("hardware.twin.pools") for path in config.space.parameters)
    if pooled or (config.hardware.twin is not None and config.hardware.twin.pools is not None):
        raise ConfigError(
            "hardware.twin.pools: several engines together run on the virtual clock alone: "
            "`wattfront simulate` with the same arguments"
        )


def check_search(config: StudyConfig) -> None:
    """Raises Missing before the first trial, not at the first that the sampler chooses."""
    if config.search.kind == "gp" and find_spec("torch") is None:
        raise Missing("search=gp needs torch: pip install 'wattfront[gp]'; search=curve needs none")


def check_machine(config: StudyConfig) -> None:
    """Raises Missing with all that this machine lacks, before a device is taken."""
    if config.cluster.kind != "local":
        return
    check_placement(config, local_capacity(config.cluster))
    lacking = dict[str, None]()
    for engine in config.engine.values():
        if isinstance(engine, External) or config.hardware.twin is not None:
            continue
        for needed in (
            partial(executable, engine),
            partial(models.locate, config.model.source, engine.model_format),
        ):
            try:
                needed()
            except LaunchError as error:
                lacking[error.evidence] = None
    if lacking:
        raise Missing("\n".join(lacking))


def check_nodes(config: StudyConfig) -> None:
    """Whether the nodes of a cluster have the files that the load is made of. Raises Missing."""
    files = files_of(config.workload)
    if not files or config.cluster.kind == "local":
        return
    if lacking := absent(list(files.values()), apart=config.workload.placement == "apart"):
        raise Missing(
            f"{', '.join(files)}: there is no {'; no '.join(lacking)}: the load is made on the "
            "cluster's nodes, so copy it there under the same path"
        )


def check_placement(config: StudyConfig, capacity: Capacity) -> None:
    """Whether every trial that is certain to come fits a node, and its load others. Raises Missing."""
    workload = config.workload
    for proposal in known_trials(config):
        try:
            capacity.check(proposal.config.topology)
            if workload.placement == "apart":
                capacity.check_apart(proposal.config.topology, workload.shards)
        except ClusterError as error:
            raise Missing(f"trial {proposal.number}: {error}") from error


def report(arguments: argparse.Namespace) -> int:
    folder = find_study(arguments.study)
    config, console = load_saved(folder), Console()
    try:
        feasible = show_report(folder, config, console)
        if arguments.to_mlflow:
            mirror(folder, config)
    except LedgerError as error:
        raise Missing(str(error)) from error
    except TrackingError as error:
        raise Missing(f"MLflow: {error}") from error
    _say(console, f"MLflow: {ui_command(config, folder)}")
    return 0 if feasible else NOTHING_FEASIBLE


def resume(arguments: argparse.Namespace) -> int:
    folder = find_study(arguments.study)
    config = load_saved(folder)
    check_files(config)
    if (folder / SIMULATED).exists():
        return _simulate(config, folder)
    return run_study(config, folder)


def find_study(name: Path) -> Path:
    """The folder of a study by path, or by name under ./studies. Raises Missing."""
    for folder in (name, Path("studies") / name):
        if (folder / "study.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in Path("studies").glob("*/study.yaml"))
    there = f"there are: {', '.join(known)}" if known else "there are none"
    raise Missing(
        f"no study at {name} (a study is a folder with a study.yaml); under ./studies {there}"
    )


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
        except OSError as error:
            raise Missing(f"output_dir: can't make {candidate}: {error.strerror}") from error
        save(config, candidate)
        return candidate
    raise Missing(f"{folder} and 98 others exist already")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)
