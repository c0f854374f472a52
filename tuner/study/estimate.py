"""What a study will take, before it runs: which trials are known, time, device-hours, dollars. Pure."""

import contextlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.workload.workload import level_count
from serving.topology import Topology
from tuner.config.errors import ConfigError
from tuner.config.resolve import default_points, searched_workload, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.notation import counted
from tuner.search import Proposal
from tuner.search.factory import SearchSetup, startup_of
from tuner.study.budget import Affordable, affordable, confirmation_starts
from tuner.study.capacity import Capacity, ClusterError, size
from tuner.trial.duration import OVERHEAD_S, idle_metering_s, load_s

ADAPTIVE = ("tpe", "nsga2", "gp", "curve")  # searches that choose by earlier results


@dataclass(frozen=True, slots=True)
class TrialCost:
    """How long one trial holds the devices of its topology."""

    topology: Topology
    wall_s: float
    devices: int

    @property
    def device_s(self) -> float:
        """Device-seconds."""
        return self.devices * self.wall_s


@dataclass(frozen=True, slots=True)
class StudyEstimate:
    """Each pair: with levels as few and short as they may be, and with all levels at their time limit."""

    trials: int
    wall_s: tuple[float, float]
    device_hours: tuple[float, float]
    usd: tuple[float, float] | None  # None: the hardware has no price


def known_trials(config: StudyConfig, setup: SearchSetup | None = None) -> list[Proposal]:
    """The trials that are certain, provided that each of them serves; the others depend on results.

    `setup`: the parts of the study's search, if they are needed again.
    """
    search, source = config.search, (setup or SearchSetup(config)).proposer()
    certain = search.trials
    if search.kind in ADAPTIVE:
        defaults = len(config.engine) if search.default_first else 0
        # A given point counts towards the initial design if it lies inside the space.
        spread = _initial_trials(config) - (defaults if search.kind == "curve" else 0)
        certain = min(certain, defaults + max(len(search.points), spread))
    known: list[Proposal] = []
    while len(known) < certain and (proposal := source.ask()):
        known.append(proposal)
    return known


def named_trials(config: StudyConfig) -> list[Proposal]:
    """The trials that the configuration names: the defaults and `search.points`, without impossible ones."""
    search = config.search
    defaults = default_points(config).values() if search.default_first else ()
    named: list[Proposal] = []
    for point in (*defaults, *search.points):
        with contextlib.suppress(ConfigError):
            named.append(Proposal(len(named), point, trial_config(config, point)))
    return named[: search.trials]


def _initial_trials(config: StudyConfig) -> int:
    if config.search.prior.kind != "none":
        return 0
    return startup_of(config) if config.search.kind == "curve" else config.search.startup_trials


def unknown_trials(config: StudyConfig, known: Sequence[Proposal]) -> int:
    """How many more trials there will be; 0 for a search that does not choose by results."""
    return config.search.trials - len(known) if config.search.kind in ADAPTIVE else 0


def planned_capacity(
    config: StudyConfig, known: Sequence[Proposal], local: Capacity
) -> tuple[Capacity, str]:
    """The capacity to plan for, and what was assumed about it: a cluster is not asked.

    `local`: what this machine offers.
    """
    topologies = [proposal.config.topology for proposal in known] or [config.topology]
    largest = (max(each.gpus for each in topologies), max(each.cpus for each in topologies))
    cluster = config.cluster
    if cluster.kind == "existing":
        per_node = config.hardware.devices_per_node if largest[0] else 0
        gpus = per_node if cluster.gpus is None else cluster.gpus
        cpus = largest[1] if cluster.cpus is None else cluster.cpus
        nodes = f"{counted(cluster.nodes, 'node')} of {devices_text(gpus, cpus)}"
        return Capacity(((gpus, cpus),) * cluster.nodes, at_once=cluster.trials_at_once), (
            f"planned for {nodes}; more nodes take less time (cluster.nodes=…)"
        )
    for topology in topologies:
        try:
            local.check(topology)
            if config.workload.placement == "apart":
                local.check_apart(topology, config.workload.shards)
        except ClusterError as error:
            return Capacity((largest,)), f"not on this machine: {error}"
    return local, ""


def devices_text(gpus: int, cpus: int) -> str:
    """`8 GPUs`, or `2 cores` without GPUs."""
    return counted(gpus, "GPU") if gpus else counted(cpus, "core")


def estimate(config: StudyConfig, capacity: Capacity, known: Sequence[Proposal]) -> StudyEstimate:
    """Trials that are not known yet cost as little as the least known one, or as much as the most."""
    low, high = _costs(config, known)
    wall_s = (makespan_s(capacity, low), makespan_s(capacity, high))
    hours = (_hours(low), _hours(high))
    price = config.hardware.usd_per_device_hour
    usd = None if price is None else (hours[0] * price.value, hours[1] * price.value)
    return StudyEstimate(len(low), wall_s, hours, usd)


def affordable_trials(
    config: StudyConfig, capacity: Capacity, known: Sequence[Proposal]
) -> Affordable:
    """How many of the trials the budget is enough for, and which limit ends the search."""
    both = _costs(config, known)
    price = config.hardware.usd_per_device_hour
    return affordable(
        config.search.budget,
        ([cost.device_s for cost in both[0]], [cost.device_s for cost in both[1]]),
        (lambda n: makespan_s(capacity, both[0][:n]), lambda n: makespan_s(capacity, both[1][:n])),
        None if price is None else price.value,
    )


def confirmation_cost(
    config: StudyConfig, known: Sequence[Proposal]
) -> tuple[tuple[int, int], tuple[float, float]]:
    """What re-measuring the best takes in addition, at least and at most: engine starts, device-hours."""
    confirm, tiers = config.search.confirm, len(config.slo.tiers)
    rounds = confirm.repeats_min, confirm.repeats_max
    starts = confirmation_starts(
        confirm.candidates, rounds, tiers, len(config.engine), config.search.trials
    )
    levels, (shortest_s, longest_s) = level_count(config.workload), load_s(config.workload)
    # For each tier its best load and the next lower one: at most two levels.
    most = min(levels, 2 * tiers) if confirm.loads == "tier" else levels
    least = 1 if confirm.loads == "tier" else levels
    low = min(_cost(each.config, shortest_s * least / levels).device_s for each in known)
    high = max(_cost(each.config, longest_s * most / levels).device_s for each in known)
    return starts, (starts[0] * low / 3600, starts[1] * high / 3600)


def makespan_s(capacity: Capacity, costs: Sequence[TrialCost]) -> float:
    """Seconds for all trials in this order, each on the first node with room, which the next one waits for."""
    free = [list(node) for node in capacity.nodes]
    running: list[tuple[float, int, int, int]] = []  # end, node, kind of device, devices
    now_s = 0.0
    for cost in costs:
        capacity.check(cost.topology)
        kind = 0 if cost.topology.gpus else 1
        need = size(cost.topology)[kind]
        most = capacity.at_once or len(costs)
        while len(running) >= most or not (
            room := [i for i, has in enumerate(free) if has[kind] >= need]
        ):
            now_s, node, freed, count = heapq.heappop(running)
            free[node][freed] += count
        free[room[0]][kind] -= need
        heapq.heappush(running, (now_s + cost.wall_s, room[0], kind, need))
    return max((end_s for end_s, *_ in running), default=now_s)


def _costs(
    config: StudyConfig, known: Sequence[Proposal]
) -> tuple[list[TrialCost], list[TrialCost]]:
    """Every trial's cost in order, at least and at most."""
    more, (shortest_s, longest_s) = unknown_trials(config, known), load_s(searched_workload(config))
    low = [_cost(proposal.config, shortest_s) for proposal in known]
    high = [_cost(proposal.config, longest_s) for proposal in known]
    low += [min(low, key=lambda cost: cost.device_s)] * more
    high += [max(high, key=lambda cost: cost.device_s)] * more
    return low, high


def _cost(trial: TrialConfig, loaded_s: float) -> TrialCost:
    twin = trial.hardware.twin
    start_s = trial.engine.typical_start_s * (1.0 if twin is None else twin.start_scale)
    idle_s = idle_metering_s(trial.power, trial.topology.gpus if trial.twin is None else 0)
    return TrialCost(trial.topology, OVERHEAD_S + start_s + idle_s + loaded_s, trial.devices)


def _hours(costs: Sequence[TrialCost]) -> float:
    return sum(cost.device_s for cost in costs) / 3600
