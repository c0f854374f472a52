"""What a study would do, before it takes a device: commands, placement, time, GPU-hours, dollars."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from serving.launch import plan_command
from tuner.cluster import Capacity
from tuner.config import StudyConfig
from tuner.display import knobs
from tuner.search import Proposal
from tuner.study import proposer

OVERHEAD_S = 3.0  # a trial beyond engine start and load


@dataclass(frozen=True, slots=True)
class Estimate:
    """`low` to `high`: levels as short as they may be, and all at their time limit."""

    trials: int
    slots: int
    low_s: float
    high_s: float
    device_hours: tuple[float, float]
    usd: tuple[float, float] | None


def known_trials(config: StudyConfig) -> list[Proposal]:
    """The trials that are certain before anything is measured; the rest depends on their results."""
    search, source = config.search, proposer(config)
    certain = search.trials
    if search.kind in ("tpe", "nsga2"):
        fixed = len(search.points) + (len(config.engine) if search.default_first else 0)
        certain = min(certain, fixed + search.startup_trials)
    asked = (source.ask() for _ in range(certain))
    return [proposal for proposal in asked if proposal is not None]


def estimate(config: StudyConfig, capacity: Capacity, known: list[Proposal]) -> Estimate:
    workload, trials = config.workload, config.search.trials
    start_s = max(proposal.config.engine.typical_start_s for proposal in known)
    devices = max(proposal.config.topology.devices for proposal in known)
    slots = max(capacity.slots(known[0].config.topology), 1)
    levels = workload.levels
    low_trial_s = OVERHEAD_S + start_s + workload.warmup_s * levels + levels * workload.level_s
    high_trial_s = OVERHEAD_S + start_s + workload.warmup_s * levels + levels * workload.level_max_s
    rounds = -(-trials // slots)
    hours = (trials * low_trial_s * devices / 3600, trials * high_trial_s * devices / 3600)
    price = config.hardware.usd_per_device_hour
    usd = None if price is None else (hours[0] * price.value, hours[1] * price.value)
    return Estimate(trials, slots, rounds * low_trial_s, rounds * high_trial_s, hours, usd)


def show_plan(config: StudyConfig, capacity: Capacity, console: Console) -> None:
    known = known_trials(config)
    table = Table(box=None, header_style="bold", show_lines=False, pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("devices")
    table.add_column("knobs", overflow="fold")
    for proposal in known:
        topology = proposal.config.topology
        held = f"{topology.gpus} GPU" if topology.gpus else f"{topology.cpus} cores"
        table.add_row(str(proposal.number), held, knobs(proposal.point))
    console.print(table)
    console.print()
    for proposal in known:
        trial = proposal.config
        command = plan_command(trial.engine, trial.model, trial.topology)
        console.print(f"# trial {proposal.number}", style="dim", highlight=False)
        console.print(command, soft_wrap=True, highlight=False, markup=False)
    rest = config.search.trials - len(known)
    if rest > 0:
        console.print(
            f"# and {rest} more, which {config.search.kind} chooses by what these measure",
            style="dim",
        )
    if known:
        _show_estimate(config, estimate(config, capacity, known), console)


def _show_estimate(config: StudyConfig, figures: Estimate, console: Console) -> None:
    device = config.hardware.device
    levels = ", ".join(str(level) for level in _loads(config))
    low, high = figures.device_hours
    console.print()
    console.print(
        f"{figures.trials} trials, {figures.slots} at a time; each one server start and a ladder: {levels}"
    )
    console.print(
        f"time: {_minutes(figures.low_s)} to {_minutes(figures.high_s)}   "
        f"{device}-hours: {low:.2f} to {high:.2f}"
    )
    price = config.hardware.usd_per_device_hour
    if figures.usd is None or price is None:
        console.print(
            f"dollars: unknown, hardware {config.hardware.name} has no price (hardware.usd_per_device_hour)"
        )
    else:
        console.print(
            f"dollars: {figures.usd[0]:.2f} to {figures.usd[1]:.2f} at ${price.value:g} per {device}-hour "
            f"({price.source}, {price.date})"
        )


def _loads(config: StudyConfig) -> list[str]:
    arrival = config.workload.arrival
    if arrival.kind == "closed":
        return [f"{users} users" for users in arrival.concurrency]
    return [f"{rate:g}/s" for rate in arrival.rate_per_s]


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
