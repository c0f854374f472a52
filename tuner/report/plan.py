"""Prints what a study would do before it takes a device: commands, time, device-hours, dollars."""

from collections.abc import Sequence

from rich.console import Console

from loadgen.workload.workload import loads_text
from serving.engines import External
from serving.launch import plan_command
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.notation import counted, duration, number, stated, usd
from tuner.report.console import say, show, table, words
from tuner.results.ledger import knobs
from tuner.search import Proposal
from tuner.study.capacity import Capacity
from tuner.study.estimate import (
    affordable_trials,
    confirmation_cost,
    devices_text,
    estimate,
    known_trials,
    planned_capacity,
    unknown_trials,
)
from tuner.study.joining.exposure import open_engines
from tuner.study.local_cluster import local_capacity


def show_plan(config: StudyConfig, console: Console) -> None:
    """The known trials with their commands, then what the whole study takes."""
    known = known_trials(config)
    _show_trials(known, console)
    more = unknown_trials(config, known)
    if more:
        say(console, f"# and {more:,} more, which {config.search.kind} chooses by these results")
    capacity, assumed = planned_capacity(config, known, local_capacity(config.cluster))
    console.print()
    if assumed:
        say(console, assumed, "yellow")
    for line in open_engines(config):
        say(console, line, "yellow")
    if known:
        _show_estimate(config, capacity, known, console)


def _show_trials(known: Sequence[Proposal], console: Console) -> None:
    columns = ("trial", words("engine"), words("devices"), words("knobs", wraps=True))
    rows = []
    for proposal in known:
        topology = proposal.config.topology
        held = devices_text(topology.gpus, topology.cpus)
        number, engine = str(proposal.number), proposal.config.engine.kind
        rows.append((number, engine, held, knobs(proposal.point)))
    show(console, table("", columns, rows))
    for proposal in known:
        say(console, f"# trial {proposal.number}", "dim")
        say(console, _command(proposal.config), whole=True)


def _command(trial: TrialConfig) -> str:
    if isinstance(trial.engine, External):
        return f"# no server to start: {trial.engine.url} is already running"
    apart = trial.workload.placement == "apart"
    return plan_command(trial.engine, trial.model, trial.topology, trial.twin, apart=apart)


def _show_estimate(
    config: StudyConfig, capacity: Capacity, known: Sequence[Proposal], console: Console
) -> None:
    figures, device = estimate(config, capacity, known), config.hardware.device
    at_once = sorted({capacity.slots(proposal.config.topology) for proposal in known})
    slots = f"{at_once[0]} to {at_once[-1]}" if len(at_once) > 1 else str(at_once[0])
    trials, loads = counted(figures.trials, "trial"), loads_text(config.workload)
    say(console, f"{trials}, {slots} at a time, each with a server start and {loads}")
    if config.hardware.twin is not None and config.cluster.kind == "local":
        say(
            console,
            f"no real GPU is used: {device}-hours and dollars are those of the emulated GPUs",
        )
    low, high = figures.device_hours
    times = f"{duration(figures.wall_s[0])} to {duration(figures.wall_s[1])}"
    say(console, f"time: {times}   {device}-hours: {number(low)} to {number(high)}")
    price = config.hardware.usd_per_device_hour
    if figures.usd is None or price is None:
        why = f"hardware {config.hardware.name} has no price (hardware.usd_per_device_hour)"
        say(console, f"dollars: unavailable: {why}")
    else:
        rate = f"${stated(price.value)} per {device}-hour ({price.source}, {price.date})"
        say(console, f"dollars: {usd(figures.usd[0])} to {usd(figures.usd[1])} at {rate}")
    _show_budget(config, capacity, known, console)
    _show_confirmation(config, known, console)


def _show_budget(
    config: StudyConfig, capacity: Capacity, known: Sequence[Proposal], console: Console
) -> None:
    """Silent for a search without a budget, which runs all its trials."""
    if not config.search.budget.limited:
        return
    found, total = affordable_trials(config, capacity, known), config.search.trials
    fewest, most = found.trials
    enough = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    ends = " or ".join(dict.fromkeys(_limit_text(config, name) for name in found.binding))
    say(console, f"budget: enough for {enough} of {total:,} trials; the search ends at {ends}")


def _limit_text(config: StudyConfig, name: str) -> str:
    if name == "trials":
        return f"search.trials ({config.search.trials})"
    return f"search.budget.{name} ({stated(getattr(config.search.budget, name))})"


def _show_confirmation(config: StudyConfig, known: Sequence[Proposal], console: Console) -> None:
    if not config.search.confirm.candidates:
        return
    (fewest, most), (low, high) = confirmation_cost(config, known)
    hours = f"{number(low)} to {number(high)} {config.hardware.device}-hours"
    price = config.hardware.usd_per_device_hour
    cost = "" if price is None else f", {usd(low * price.value)} to {usd(high * price.value)}"
    say(
        console,
        f"in addition, to re-measure the best: {fewest:,} to {most:,} engine starts, {hours}{cost}",
    )
