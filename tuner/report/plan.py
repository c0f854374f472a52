"""What a study would do, before it takes a device: commands, placement, time, GPU-hours, dollars."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen.workload.workload import level_count, loads_text
from serving.engines import External
from serving.launch import plan_command
from serving.topology import Topology
from tuner.config.resolve import searched_workload
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.results.ledger import knobs
from tuner.search import Proposal
from tuner.search.factory import startup_of
from tuner.study.affordable import Bought, affordable, confirmation_starts
from tuner.study.ray_cluster import Capacity, ClusterError, local_capacity
from tuner.study.study import proposer
from tuner.trial.duration import OVERHEAD_S, idles_s, load_s

ADAPTIVE = ("tpe", "nsga2", "gp", "curve")  # choose by what was measured


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one trial: how long it holds its topology's devices."""

    topology: Topology
    wall_s: float
    devices: int

    @property
    def device_s(self) -> float:
        return self.devices * self.wall_s


@dataclass(frozen=True, slots=True)
class Estimate:
    """Each pair: levels as few and short as they may be, and all at their time limit."""

    trials: int
    wall_s: tuple[float, float]
    device_hours: tuple[float, float]
    usd: tuple[float, float] | None


def known_trials(config: StudyConfig) -> list[Proposal]:
    """The trials that are certain if each of them serves; the rest depends on their results."""
    search, source = config.search, proposer(config)
    certain = search.trials
    if search.kind in ADAPTIVE:
        defaults = len(config.engine) if search.default_first else 0
        # A point given counts as one of those to start with, if it lies inside the space.
        spread = _spread_trials(config) - (defaults if search.kind == "curve" else 0)
        certain = min(certain, defaults + max(len(search.points), spread))
    known: list[Proposal] = []
    while len(known) < certain and (proposal := source.ask()):
        known.append(proposal)
    return known


def _spread_trials(config: StudyConfig) -> int:
    if config.search.prior.kind != "none":
        return 0
    return startup_of(config) if config.search.kind == "curve" else config.search.startup_trials


def unknown_trials(config: StudyConfig, known: Sequence[Proposal]) -> int:
    """How many more there will be; a search that does not learn has named all it has."""
    return config.search.trials - len(known) if config.search.kind in ADAPTIVE else 0


def planned_capacity(config: StudyConfig, known: Sequence[Proposal]) -> tuple[Capacity, str]:
    """What trials may take, and what was assumed of it: a plan asks no cluster."""
    topologies = [proposal.config.topology for proposal in known] or [config.topology]
    largest = (max(each.gpus for each in topologies), max(each.cpus for each in topologies))
    cluster = config.cluster
    if cluster.kind == "existing":
        per_node = config.hardware.devices_per_node if largest[0] else 0
        gpus = per_node if cluster.gpus is None else cluster.gpus
        cpus = largest[1] if cluster.cpus is None else cluster.cpus
        nodes = f"{cluster.nodes} node{'s' * (cluster.nodes > 1)} of {_held(gpus, cpus)}"
        return Capacity(((gpus, cpus),) * cluster.nodes, at_once=cluster.trials_at_once), (
            f"planned for {nodes}: more nodes take less time (cluster.nodes=…)"
        )
    capacity, workload = local_capacity(cluster), config.workload
    for topology in topologies:
        try:
            capacity.check(topology)
            if workload.placement == "apart":
                capacity.check_apart(topology, workload.shards)
        except ClusterError as error:
            return Capacity((largest,)), f"not on this machine: {error}"
    return capacity, ""


def estimate(config: StudyConfig, capacity: Capacity, known: Sequence[Proposal]) -> Estimate:
    """Trials not known yet cost as little as the least of the known ones, or as much as the most."""
    more = unknown_trials(config, known)
    low, high = _costs(config, known, more)
    wall_s = (packed_s(capacity, low), packed_s(capacity, high))
    hours = (_hours(low), _hours(high))
    price = config.hardware.usd_per_device_hour
    usd = None if price is None else (hours[0] * price.value, hours[1] * price.value)
    return Estimate(len(low), wall_s, hours, usd)


def bought(config: StudyConfig, capacity: Capacity, known: Sequence[Proposal]) -> Bought:
    """How many of the trials the budget is enough for, and which limit ends the search."""
    both = _costs(config, known, unknown_trials(config, known))
    price = config.hardware.usd_per_device_hour
    return affordable(
        config.search.budget,
        ([cost.device_s for cost in both[0]], [cost.device_s for cost in both[1]]),
        (lambda n: packed_s(capacity, both[0][:n]), lambda n: packed_s(capacity, both[1][:n])),
        None if price is None else price.value,
    )


def confirmation(
    config: StudyConfig, known: Sequence[Proposal]
) -> tuple[tuple[int, int], tuple[float, float]]:
    """What confirming the best takes on top, at least and at most: engine starts, and device-hours."""
    confirm, tiers = config.search.confirm, len(config.slo.tiers)
    rounds = confirm.repeats_min, confirm.repeats_max
    starts = confirmation_starts(
        confirm.contenders, rounds, tiers, len(config.engine), config.search.trials
    )
    levels, (shortest_s, longest_s) = level_count(config.workload), load_s(config.workload)
    # Of a tier its best load and the next lower one: at most two levels.
    most = min(levels, 2 * tiers) if confirm.loads == "tier" else levels
    least = 1 if confirm.loads == "tier" else levels
    low = min(_cost(each.config, shortest_s * least / levels).device_s for each in known)
    high = max(_cost(each.config, longest_s * most / levels).device_s for each in known)
    return starts, (starts[0] * low / 3600, starts[1] * high / 3600)


def _costs(
    config: StudyConfig, known: Sequence[Proposal], more: int
) -> tuple[list[Cost], list[Cost]]:
    """Of each trial in order, at least and at most."""
    shortest_s, longest_s = load_s(searched_workload(config))
    low = [_cost(proposal.config, shortest_s) for proposal in known]
    high = [_cost(proposal.config, longest_s) for proposal in known]
    low += [min(low, key=lambda cost: cost.device_s)] * more
    high += [max(high, key=lambda cost: cost.device_s)] * more
    return low, high


def packed_s(capacity: Capacity, costs: Sequence[Cost]) -> float:
    """Trials in their order, each on the first node with room, which the next one waits for."""
    free = [list(node) for node in capacity.nodes]
    running: list[tuple[float, int, int, int]] = []  # its end, and what it gives back to which node
    now_s = 0.0
    for cost in costs:
        capacity.check(cost.topology)
        gpus = cost.topology.gpus
        kind, need = (0, gpus) if gpus else (1, max(cost.topology.cpus, 1))
        most = capacity.at_once or len(costs)
        while len(running) >= most or not (
            room := [i for i, has in enumerate(free) if has[kind] >= need]
        ):
            now_s, node, freed, count = heapq.heappop(running)
            free[node][freed] += count
        free[room[0]][kind] -= need
        heapq.heappush(running, (now_s + cost.wall_s, room[0], kind, need))
    return max((end_s for end_s, *_ in running), default=now_s)


def show_plan(config: StudyConfig, console: Console) -> None:
    known = known_trials(config)
    _show_trials(known, console)
    more = unknown_trials(config, known)
    if more:
        _say(console, f"# and {more} more, which {config.search.kind} chooses by what these show")
    capacity, assumed = planned_capacity(config, known)
    console.print()
    if assumed:
        _say(console, assumed, "yellow")
    if known:
        _show_estimate(config, capacity, known, console)


def _show_trials(known: Sequence[Proposal], console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("engine")
    table.add_column("devices", no_wrap=True)
    table.add_column("knobs", overflow="fold")
    for proposal in known:
        topology = proposal.config.topology
        held = _held(topology.gpus, topology.cpus)
        number, engine = str(proposal.number), proposal.config.engine.kind
        table.add_row(number, engine, held, Text(knobs(proposal.point)))
    console.print(table)
    console.print()
    for proposal in known:
        trial = proposal.config
        _say(console, f"# trial {proposal.number}", "dim")
        _say(console, _command(trial))


def _command(trial: TrialConfig) -> str:
    if isinstance(trial.engine, External):
        return f"# nothing to start: {trial.engine.url} runs already"
    return plan_command(trial.engine, trial.model, trial.topology, trial.twin)


def _show_estimate(
    config: StudyConfig, capacity: Capacity, known: Sequence[Proposal], console: Console
) -> None:
    figures, device = estimate(config, capacity, known), config.hardware.device
    at_once = sorted({capacity.slots(proposal.config.topology) for proposal in known})
    slots = f"{at_once[0]} to {at_once[-1]}" if len(at_once) > 1 else str(at_once[0])
    _say(
        console,
        f"{figures.trials} trials, {slots} at a time, each a server start and {loads_text(config.workload)}",
    )
    if config.hardware.twin is not None and config.cluster.kind == "local":
        _say(
            console,
            "nothing real is taken: GPU-hours and dollars are what the emulated GPUs would cost",
        )
    low, high = figures.device_hours
    times = f"{_time(figures.wall_s[0])} to {_time(figures.wall_s[1])}"
    _say(console, f"time: {times}   {device}-hours: {low:.2f} to {high:.2f}")
    price = config.hardware.usd_per_device_hour
    if figures.usd is None or price is None:
        name = config.hardware.name
        _say(
            console,
            f"dollars: unknown, hardware {name} has no price (hardware.usd_per_device_hour)",
        )
    else:
        spent = f"{figures.usd[0]:.2f} to {figures.usd[1]:.2f}"
        rate = f"${price.value:g} per {device}-hour ({price.source}, {price.date})"
        _say(console, f"dollars: {spent} at {rate}")
    _show_budget(config, capacity, known, console)
    _show_confirmation(config, known, console)


def _show_budget(
    config: StudyConfig, capacity: Capacity, known: Sequence[Proposal], console: Console
) -> None:
    """What is left out of a budget has no limit, and a search without one makes all its trials."""
    if not config.search.budget.limited:
        return
    buys, total = bought(config, capacity, known), config.search.trials
    (fewest, most), names = buys.trials, buys.binding
    said = str(most) if fewest == most else f"{fewest} to {most}"
    ends = " or ".join(dict.fromkeys(_limit_text(config, name) for name in names))
    _say(console, f"budget: enough for {said} of {total} trials; what ends the search is {ends}")


def _limit_text(config: StudyConfig, name: str) -> str:
    if name == "trials":
        return f"search.trials ({config.search.trials})"
    return f"search.budget.{name} ({getattr(config.search.budget, name):g})"


def _show_confirmation(config: StudyConfig, known: Sequence[Proposal], console: Console) -> None:
    if not config.search.confirm.contenders:
        return
    starts, (low, high) = confirmation(config, known)
    hours = f"{low:.2f} to {high:.2f} {config.hardware.device}-hours"
    price = config.hardware.usd_per_device_hour
    usd = "" if price is None else f", ${low * price.value:.2f} to ${high * price.value:.2f}"
    _say(
        console,
        f"on top, to confirm the best: {starts[0]} to {starts[1]} engine starts, {hours}{usd}",
    )


def _cost(trial: TrialConfig, loaded_s: float) -> Cost:
    twin = trial.hardware.twin
    start_s = trial.engine.typical_start_s * (1.0 if twin is None else twin.start_scale)
    idle_s = idles_s(trial.power, trial.topology.gpus if trial.twin is None else 0)
    return Cost(trial.topology, OVERHEAD_S + start_s + idle_s + loaded_s, trial.devices)


def _hours(costs: Sequence[Cost]) -> float:
    return sum(cost.device_s for cost in costs) / 3600


def _held(gpus: int, cpus: int) -> str:
    count, unit = (gpus, "GPU") if gpus else (cpus, "core")
    return f"{count} {unit}{'s' * (count != 1)}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)
