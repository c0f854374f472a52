"""What a study would do, before it takes a device: commands, placement, time, GPU-hours, dollars."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen import Adaptive, Ramp, Step, Workload
from loadgen.workload import level_count, loads_text
from serving.engines import External
from serving.launch import plan_command
from serving.topology import Topology
from tuner.cluster import Capacity, ClusterError, local_capacity
from tuner.config import StudyConfig
from tuner.ledger import knobs
from tuner.search import Proposal
from tuner.study import proposer
from tuner.trial import TrialConfig

OVERHEAD_S = 3.0  # a trial beyond engine start and load
ADAPTIVE = ("tpe", "nsga2")  # choose by what was measured
FEWEST_FOUND = 2  # levels of an adaptive ladder: the lowest, and one that shows no gain


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
    """The trials that are certain before anything is measured; the rest depends on their results."""
    search, source = config.search, proposer(config)
    certain = search.trials
    if search.kind in ADAPTIVE:
        defaults = len(config.engine) if search.default_first else 0
        # A point given counts as one of those to start with, if it lies inside the space.
        certain = min(certain, defaults + max(len(search.points), search.startup_trials))
    known: list[Proposal] = []
    while len(known) < certain and (proposal := source.ask()):
        known.append(proposal)
    return known


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
    shortest_s, longest_s = load_s(config.workload)
    low = [_cost(proposal.config, shortest_s) for proposal in known]
    high = [_cost(proposal.config, longest_s) for proposal in known]
    low += [min(low, key=lambda cost: cost.device_s)] * more
    high += [max(high, key=lambda cost: cost.device_s)] * more
    wall_s = (packed_s(capacity, low), packed_s(capacity, high))
    hours = (_hours(low), _hours(high))
    price = config.hardware.usd_per_device_hour
    usd = None if price is None else (hours[0] * price.value, hours[1] * price.value)
    return Estimate(len(low), wall_s, hours, usd)


def load_s(workload: Workload) -> tuple[float, float]:
    """The least and the most that all levels of a trial take; what drains after them comes on top."""
    longest_s = workload.warmup_s + workload.level_max_s
    shortest_s = workload.warmup_s + workload.level_s
    levels = fewest = level_count(workload)
    match workload.arrival:
        case Adaptive():
            fewest = min(FEWEST_FOUND, levels)
        case Ramp(over_s=over_s):
            shortest_s = longest_s = min(over_s, longest_s)
        case Step():
            shortest_s = longest_s  # its last rate goes on
    if workload.max_requests is not None:
        shortest_s = min(shortest_s, workload.warmup_s)
    return fewest * shortest_s, levels * longest_s


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
    return plan_command(trial.engine, trial.model, trial.topology, trial.hardware.twin)


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


def _cost(trial: TrialConfig, loaded_s: float) -> Cost:
    twin = trial.hardware.twin
    start_s = trial.engine.typical_start_s * (1.0 if twin is None else twin.start_scale)
    return Cost(trial.topology, OVERHEAD_S + start_s + loaded_s, trial.devices)


def _hours(costs: Sequence[Cost]) -> float:
    return sum(cost.device_s for cost in costs) / 3600


def _held(gpus: int, cpus: int) -> str:
    count, unit = (gpus, "GPU") if gpus else (cpus, "core")
    return f"{count} {unit}{'s' * (count != 1)}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)
