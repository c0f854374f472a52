"""Prints what a study would do before it takes a device: commands, time, device-hours, dollars."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadgen.workload.workload import loads_text
from serving.engines import External
from serving.launch import NEXT, for_shell, plan_command, version_here
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.notation import number, stated
from tuner.report.console import say, show, table, words
from tuner.report.rough import amount_range, count_range, duration_range
from tuner.results.ledger import engine_name, knobs
from tuner.search import Proposal
from tuner.search.factory import SearchSetup
from tuner.study.capacity import Capacity
from tuner.study.joining.exposure import open_engines
from tuner.study.local_cluster import local_capacity
from tuner.study.planning.earlier import factors_of
from tuner.study.planning.estimate import (
    StudyEstimate,
    devices_text,
    estimate,
    known_trials,
    likely_trials,
    planned_capacity,
    unknown_trials,
)
from tuner.study.planning.speed import DISK_BYTES_S
from tuner.study.planning.too_large import too_large
from tuner.trial.flag_check import judge_flags

COLUMNS = 79  # of a command's line
BUSY = 1.5
# A file whose contents are in the command line.
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=").match
INLINE = re.compile(r"(<\(echo '[^']*'\))")
LISTED = 6  # of the first trials, at least, where there are so many


def show_plan(config: StudyConfig, console: Console) -> None:
    """The first trials with their commands, then what the whole study takes."""
    setup = SearchSetup(config)
    known = known_trials(config, setup)
    more = unknown_trials(config, known, setup)
    likely = likely_trials(config, known, min(more, LISTED - len(known)), setup)
    _show_trials([*known, *likely], len(known), console)
    if unlisted := more - len(likely):
        say(console, f"# and {unlisted:,} more, which {config.search.kind} chooses by the results")
    capacity, assumed = planned_capacity(config, known, local_capacity(config.cluster))
    console.print()
    if assumed:
        say(console, assumed, "yellow")
    for line in open_engines(config):
        say(console, line, "yellow")
    if note := too_large(config, setup.space):
        say(console, note, "yellow")
    for line in judge_flags(config, _installed(config)).used:
        say(console, line, "dim")
    if known:
        factors = factors_of(config, Path(config.output_dir))
        busy = _busy(config)
        figures = estimate(config, capacity, known, setup=setup, factors=factors, busy=busy)
        _show_estimate(config, capacity, known, figures, console)
        if busy > BUSY:
            why = f"other work takes {number(os.getloadavg()[0], 2)} cores of this machine now"
            say(console, f"{why}: planned {busy:.1f} times as long as without it", "yellow")


def _installed(config: StudyConfig) -> dict[str, str | None]:
    """Engine → its version, where the trials run here, or where its image names it."""
    real, local = config.hardware.twin is None, config.cluster.kind == "local"
    engines = config.engine.items()
    return {
        name: version_here(each) for name, each in engines if real and (local or each.container)
    }


def _busy(config: StudyConfig) -> float:
    """How many times longer engines on this machine's cores take beside the work that it does now."""
    if config.cluster.kind != "local" or config.reserves.gpus:
        return 1.0
    cores = len(os.sched_getaffinity(0))
    return max(1.0, (os.getloadavg()[0] + config.reserves.cores) / cores)


def _show_trials(first: Sequence[Proposal], certain: int, console: Console) -> None:
    columns = ("trial", words("engine"), words("devices"), words("knobs", wraps=True))
    rows = []
    for proposal in first:
        topology = proposal.config.topology
        held = devices_text(topology.gpus, topology.cores)
        trial, engine = str(proposal.number), engine_name(proposal.point, proposal.config)
        rows.append((trial, engine, held, knobs(proposal.point)))
    show(console, table("", columns, rows))
    for place, proposal in enumerate(first):
        if place == certain:
            say(
                console,
                "# The next ones as chosen without a result; results may change them.",
                "dim",
            )
        say(console, f"# trial {proposal.number}", "dim")
        say(console, _command(proposal.config), whole=True)


def _command(trial: TrialConfig) -> str:
    if isinstance(trial.engine, External):
        return f"# no server to start: {trial.engine.url} is already running"
    apart = trial.workload.placement == "apart"
    return folded(plan_command(trial.engine, trial.model, trial.topology, trial.twin, apart=apart))


def folded(command: str, columns: int = COLUMNS) -> str:
    """The commands over several lines that a shell joins; a flag stays beside its value."""
    return NEXT.join(_folded(each, columns) for each in command.split(NEXT))


def _folded(command: str, columns: int) -> str:
    groups = list[str]()
    for word in INLINE.split(command):
        if INLINE.fullmatch(word):
            groups[-1] += f" {word}"
            continue
        _grow(groups, shlex.split(word))
    lines = [groups[0]]
    for group in groups[1:]:
        if len(lines[-1]) + 1 + len(group) + 2 <= columns:
            lines[-1] += f" {group}"
        else:
            lines.append(f"    {group}")
    return " \\\n".join(lines)


def _grow(groups: list[str], words: Sequence[str]) -> None:
    """Adds each word to the group of its flag, or as a group of its own."""
    for word in words:
        text = for_shell(word)
        variable, equals, value = word.partition("=")
        if equals and variable.isidentifier() and all(map(ASSIGNMENT, groups)):
            text = f"{variable}={for_shell(value)}"
        after_flag = groups and groups[-1].startswith("-") and " " not in groups[-1]
        if after_flag and not word.startswith("-"):
            groups[-1] += f" {text}"
        else:
            groups.append(text)


def _show_estimate(
    config: StudyConfig,
    capacity: Capacity,
    known: Sequence[Proposal],
    figures: StudyEstimate,
    console: Console,
) -> None:
    device = config.hardware.device
    at_once = sorted({capacity.slots(proposal.config.reserves) for proposal in known})
    slots = f"{at_once[0]} to {at_once[-1]}" if len(at_once) > 1 else str(at_once[0])
    trials = round(figures.trials.high)
    counts = f"{count_range(figures.trials)} trial{'s' * (trials != 1)}"
    say(console, f"{counts}, {slots} at a time, each {loads_text(config.workload)}")
    if trials < config.search.trials and not config.search.budget.limited:
        say(
            console,
            f"search.trials is {config.search.trials:,}; the space has no more configurations",
        )
    if config.hardware.twin is not None and config.cluster.kind == "local":
        say(
            console,
            f"no real GPU is used: {device}-hours and dollars are those of the emulated GPUs",
        )
    say(console, f"time: {duration_range(figures.wall_s)}")
    say(console, f"{device}-hours: {amount_range(figures.device_hours)}")
    price = config.hardware.usd_per_device_hour
    if figures.usd is None or price is None:
        why = f"hardware {config.hardware.name} has no price (hardware.usd_per_device_hour)"
        say(console, f"dollars: unavailable: {why}")
    else:
        rate = f"${stated(price.value)} per {device}-hour"
        say(console, f"dollars: {amount_range(figures.usd, '$')}, at {rate}")
        say(console, f"  ({price.source}, {price.date})", "dim")
    _show_parts(config, figures, console)
    _show_budget(config, figures, console)
    _show_source(config, figures, console)


def _show_parts(config: StudyConfig, figures: StudyEstimate, console: Console) -> None:
    start, load = duration_range(figures.first_start_s), duration_range(figures.first_load_s)
    say(console, f"  the first trial: start {start},")
    say(console, f"    load {load}")
    if config.search.confirm.candidates:
        starts, took = count_range(figures.starts), duration_range(figures.confirm_s)
        hours = f"{amount_range(figures.confirm_device_hours)} {config.hardware.device}-hours"
        say(console, f"  in this, to re-measure the best: {starts} engine starts,")
        say(console, f"    {took}, {hours}")


def _show_budget(config: StudyConfig, figures: StudyEstimate, console: Console) -> None:
    """Silent for a search without a budget, which runs all its trials."""
    if not config.search.budget.limited:
        return
    ends = " or ".join(_limit_text(config, name) for name in figures.binding)
    enough, total = count_range(figures.trials), config.search.trials
    say(console, f"budget: enough for {enough} of {total:,} trials; the search ends at {ends}")


def _limit_text(config: StudyConfig, name: str) -> str:
    if name == "trials":
        return f"search.trials ({config.search.trials})"
    return f"search.budget.{name} ({stated(getattr(config.search.budget, name))})"


def _show_source(config: StudyConfig, figures: StudyEstimate, console: Console) -> None:
    """What the figures rest on, and what would make them better."""
    say(console, "8 of 10 studies lie in these ranges, which rest on:", "dim")
    if figures.sources:
        say(console, f"  request times from {' and '.join(figures.sources)}", "dim")
    weights = figures.weights_bytes
    if config.hardware.twin is None and weights is not None:
        size = f"{number(weights / 1e9, 2)} GB" if weights >= 1e9 else f"{weights / 1e6:.0f} MB"
        say(console, f"  starts that read {size} of weights at {DISK_BYTES_S / 1e9:g} GB/s", "dim")
    if figures.earlier:
        several = "study" if figures.earlier == 1 else f"{figures.earlier} studies"
        say(console, f"  the latest {several} of this hardware in {config.output_dir}", "dim")
    else:
        say(console, f"  no earlier study of this hardware in {config.output_dir}", "dim")
