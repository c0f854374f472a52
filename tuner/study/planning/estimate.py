"""What a study will take, before it runs: which trials are known, time, device-hours, dollars. Pure."""

import contextlib
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from serving.topology import Topology
from tuner.config.errors import ConfigError
from tuner.config.resolve import (
    default_points,
    measured_workload,
    searched_workload,
    trial_config,
)
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.notation import counted
from tuner.search import Proposal
from tuner.search.even_points import even_points
from tuner.search.factory import SearchSetup, startup_of
from tuner.study.capacity import Capacity, ClusterError, size
from tuner.study.planning.draws import Factors, Job, StudyPlan, draw
from tuner.study.planning.shape import shape_of
from tuner.trial.duration import OVERHEAD_S

Floats = NDArray[np.float64]

ADAPTIVE = ("tpe", "nsga2", "gp", "curve")  # searches that choose by earlier results
TAIL = 0.08  # of the drawn studies, beyond each end of a range: 80 % must lie inside in practice
SAMPLED, SAMPLED_DRAWS = 20, 400  # configurations of the space that stand for those not known yet
COUNTED = 2_000  # points of a space up to which their number limits the trials


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


def likely_trials(
    config: StudyConfig, known: Sequence[Proposal], count: int, setup: SearchSetup | None = None
) -> list[Proposal]:
    """What the search would propose after the known trials while it has no result yet."""
    if count <= 0 or config.search.kind not in ADAPTIVE:
        return []
    source = (setup or SearchSetup(config)).proposer()
    asked = [source.ask() for _ in range(len(known) + count)]
    return [proposal for proposal in asked[len(known) :] if proposal is not None]


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


def unknown_trials(
    config: StudyConfig, known: Sequence[Proposal], setup: SearchSetup | None = None
) -> int:
    """How many more trials there will be; 0 for a search that does not choose by results.

    A small space ends the search before its last trial.
    """
    search = config.search
    wanted = search.trials - len(known)
    if search.kind not in ADAPTIVE or wanted <= 0:
        return 0
    space = (setup or SearchSetup(config)).space
    points = space.all_points(min(search.trials, COUNTED))
    if points is None or len(points) > search.trials:
        return wanted
    tried = {proposal.config.fingerprint for proposal in known}
    for point in points:
        with contextlib.suppress(ConfigError):
            tried.add(trial_config(config, point).fingerprint)
    return min(wanted, len(tried) - len({each.config.fingerprint for each in known}))


def planned_capacity(
    config: StudyConfig, known: Sequence[Proposal], local: Capacity
) -> tuple[Capacity, str]:
    """The capacity to plan for, and what was assumed about it: a cluster is not asked.

    `local`: what this machine offers.
    """
    topologies = [proposal.config.reserves for proposal in known] or [config.reserves]
    largest = (max(each.gpus for each in topologies), max(each.cores for each in topologies))
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


@dataclass(frozen=True, slots=True)
class Range:
    """The median of what may be, and what 80 % of studies lie between."""

    low: float
    likely: float
    high: float

    @classmethod
    def of(cls, drawn: Floats) -> "Range":
        """Of drawn studies."""
        low, likely, high = np.quantile(drawn, (TAIL, 0.5, 1 - TAIL)).tolist()
        return cls(low, likely, high)

    def times(self, factor: float) -> "Range":
        """The same in another unit."""
        return Range(factor * self.low, factor * self.likely, factor * self.high)


@dataclass(frozen=True, slots=True)
class StudyEstimate:
    """What a study takes, re-measurement included; `search_*`: without it.

    `first_start_s`, `first_load_s`: of the first trial. `starts`: of engines, to re-measure. `binding`: which
    limits end the search. `sources`: what predicted the durations.
    """

    trials: Range
    wall_s: Range
    device_hours: Range
    usd: Range | None  # None: the hardware has no price
    search_s: Range
    starts: Range
    confirm_s: Range
    confirm_device_hours: Range
    first_start_s: Range
    first_load_s: Range
    binding: tuple[str, ...]
    sources: tuple[str, ...]
    weights_bytes: float | None = None
    earlier: int = 0  # studies whose ledgers sharpened it


def estimate(
    config: StudyConfig,
    capacity: Capacity,
    known: Sequence[Proposal],
    *,
    setup: SearchSetup | None = None,
    factors: Mapping[str, Factors] | None = None,
    busy: float = 1.0,
    virtual: bool = False,
) -> StudyEstimate:
    """The estimate of a study with these first trials. `factors`: what earlier studies showed, by engine.

    `busy`: how many times longer all takes on a machine with other work. `virtual`: on the virtual clock,
    where a start takes as long as a real one, and nothing besides start and load any time.
    """
    plan = study_plan(config, capacity, known, setup, factors or {}, busy, virtual=virtual)
    return estimate_of(plan, capacity)


def estimate_of(plan: StudyPlan, capacity: Capacity) -> StudyEstimate:
    """The estimate from draws of the study."""
    drawn = draw(plan, lambda jobs: makespan_s(capacity, jobs))
    hours = (drawn.search_device_s + drawn.confirm_device_s) / 3600
    price = plan.usd_per_device_hour
    shapes = (*plan.known, *plan.others)
    studies = {each.engine: plan.factors.get(each.engine, Factors()).studies for each in shapes}
    device_hours = Range.of(hours)
    return StudyEstimate(
        trials=Range.of(drawn.trials),
        wall_s=Range.of(drawn.search_s + drawn.confirm_s),
        device_hours=device_hours,
        usd=None if price is None else device_hours.times(price),
        search_s=Range.of(drawn.search_s),
        starts=Range.of(drawn.repeats),
        confirm_s=Range.of(drawn.confirm_s),
        confirm_device_hours=Range.of(drawn.confirm_device_s / 3600),
        first_start_s=Range.of(drawn.first_start_s),
        first_load_s=Range.of(drawn.first_load_s),
        binding=tuple(dict.fromkeys(drawn.ends)),
        sources=tuple(dict.fromkeys(each.speed.source for each in shapes if each.speed.source)),
        weights_bytes=plan.known[0].speed.weights_bytes,
        earlier=max(studies.values(), default=0),
    )


def study_plan(
    config: StudyConfig,
    capacity: Capacity,
    known: Sequence[Proposal],
    setup: SearchSetup | None,
    factors: Mapping[str, Factors],
    busy: float = 1.0,
    *,
    virtual: bool = False,
) -> StudyPlan:
    """What the draws of a study start from."""
    search, more = config.search, unknown_trials(config, known, setup)
    trials = len(known) + more
    others = sampled_trials(config, capacity, setup) if more else []
    first = min(search.startup_trials, trials) if search.stop.on else trials
    overheads = [each.overhead_s for each in factors.values() if each.overhead_s is not None]
    overhead_s = busy * OVERHEAD_S if not overheads else fmean(overheads)
    # Earlier studies ran beside other work as well: what they show of it is not counted twice.
    busy = max(
        [busy / math.exp(max(f.latency, f.start, f.load or 0.0, 0.0)) for f in factors.values()]
        or [busy]
    )
    busy = max(busy, 1.0)
    shapes = [shape_of(config, each.config, busy, virtual=virtual) for each in known]
    price = config.hardware.usd_per_device_hour
    return StudyPlan(
        known=shapes,
        others=[shape_of(config, each, busy, virtual=virtual) for each in others],
        trials=(max(first, 1), max(trials, 1)),
        adaptive=search.kind in ADAPTIVE,
        workload=searched_workload(config),
        measured=measured_workload(config),
        overhead_s=0.0 if virtual else overhead_s,
        pruned=search.prune_risk is not None,
        confirm=search.confirm,
        defaults=len(config.engine) if search.default_first else 0,
        budget=search.budget,
        usd_per_device_hour=None if price is None else price.value,
        factors=factors,
        fail=not virtual,
    )


def sampled_trials(
    config: StudyConfig, capacity: Capacity, setup: SearchSetup | None
) -> list[TrialConfig]:
    """Some configurations of the space, evenly spread: the search chooses among such."""
    space, found = (setup or SearchSetup(config)).space, list[TrialConfig]()
    for point in islice(even_points(space, config.search.seed), SAMPLED_DRAWS):
        with contextlib.suppress(ConfigError, ClusterError):
            if space.possible(point):
                trial = trial_config(config, point)
                capacity.check(trial.reserves)
                found.append(trial)
        if len(found) == SAMPLED:
            break
    return found


def makespan_s(capacity: Capacity, jobs: Sequence[Job]) -> float:
    """Seconds for all trials in this order, each on the first node with room, which the next one waits for."""
    free = [list(node) for node in capacity.nodes]
    running: list[tuple[float, int, int, int]] = []  # end, node, kind of device, devices
    now_s = 0.0
    checked = set[Topology]()
    for job in jobs:
        if job.topology not in checked:
            capacity.check(job.topology)
            checked.add(job.topology)
        kind = 0 if job.topology.gpus else 1
        need = size(job.topology)[kind]
        most = capacity.at_once or len(jobs)
        while len(running) >= most or not (
            room := [i for i, has in enumerate(free) if has[kind] >= need]
        ):
            now_s, node, freed, count = heapq.heappop(running)
            free[node][freed] += count
        free[room[0]][kind] -= need
        heapq.heappush(running, (now_s + job.wall_s, room[0], kind, need))
    return max((end_s for end_s, *_ in running), default=now_s)
