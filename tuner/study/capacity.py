"""What trials may use of each node of a cluster, and whether a trial fits. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from serving.topology import Topology


class ClusterError(Exception):
    """The cluster can't run the study. One line: what is missing, where, what would be right."""


Placed = tuple[str, Topology]  # the node of a running trial
NODES_SHOWN = 3


def size(topology: Topology) -> tuple[int, int]:
    """What a trial reserves on its node: (GPUs, CPU cores)."""
    return topology.gpus, 0 if topology.gpus else max(topology.cores, 1)


def _kind(topology: Topology) -> int:
    return 0 if topology.gpus else 1


@dataclass(frozen=True, slots=True)
class Capacity:
    """What trials may use of each node: (GPUs, CPU cores). `cores`: all cores that Ray has on each node.

    `at_once`: the most trials at a time, however many devices are free. `ids`, `names`: of the nodes, in Ray
    and for people; empty: their place. `left`: what other work on the cluster leaves of `nodes`; empty: all.
    """

    nodes: tuple[tuple[int, int], ...]
    cores: tuple[int, ...] = ()
    at_once: int | None = None
    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    left: tuple[tuple[int, int], ...] = ()

    @property
    def largest(self) -> tuple[int, int]:
        """The most (GPUs, CPU cores) that one trial may use."""
        return (
            max((gpus for gpus, _ in self.nodes), default=0),
            max((cpus for _, cpus in self.nodes), default=0),
        )

    def free(self, running: Iterable[Placed]) -> dict[str, tuple[int, int]]:
        """Node → what is free of it beside these trials and other work."""
        ids = self.ids or tuple(str(place) for place in range(len(self.nodes)))
        free = {key: list(has) for key, has in zip(ids, self.left or self.nodes, strict=True)}
        for node, topology in running:
            if node in free:
                free[node][_kind(topology)] -= size(topology)[_kind(topology)]
        return {key: (max(gpus, 0), max(cpus, 0)) for key, (gpus, cpus) in free.items()}

    def without(self, nodes: Collection[str]) -> "Capacity":
        """The same with nothing free on these nodes."""
        if not nodes:
            return self
        left = zip(self.ids, self.left or self.nodes, strict=True)
        return replace(self, left=tuple((0, 0) if node in nodes else has for node, has in left))

    def named(self, names: Collection[str]) -> list[str]:
        """The ids of the nodes of these names."""
        return [key for key, name in zip(self.ids, self.names, strict=False) if name in names]

    def name(self, node: str) -> str:
        """The name of the node of this id; empty: it has none."""
        return dict(zip(self.ids, self.names, strict=False)).get(node, "")

    def place(
        self, topology: Topology, running: Sequence[Placed], load_cores: int = 0
    ) -> str | None:
        """The node that a trial gets beside the running ones: the fullest with room. None: there is none.

        `load_cores`: those of its load on other nodes, which an engine on cores must leave.
        """
        if self.at_once is not None and len(running) >= self.at_once:
            return None
        kind, need = _kind(topology), size(topology)[_kind(topology)]
        free = self.free(running)
        able = {node: has[kind] for node, has in free.items() if has[kind] >= need}
        if kind == 1 and load_cores:
            elsewhere = self._cores_elsewhere(running)
            taken = load_cores * len(running)
            able = {
                node: has for node, has in able.items() if elsewhere[node] - taken >= load_cores
            }
        return min(able, key=lambda node: able[node], default=None)

    def _cores_elsewhere(self, running: Sequence[Placed]) -> dict[str, int]:
        """Node → the cores of the other nodes that no running engine has."""
        ids = self.ids or tuple(str(place) for place in range(len(self.nodes)))
        cores = dict(zip(ids, self.cores, strict=True))
        for node, topology in running:
            if node in cores:
                cores[node] -= size(topology)[1]
        return {node: sum(cores.values()) - has for node, has in cores.items()}

    def waits_for(self, topology: Topology, running: Iterable[Placed]) -> str:
        """What a trial waits for: `8 GPUs: node a has 3 free, b has 0`."""
        kind, need = _kind(topology), size(topology)[_kind(topology)]
        free = self.free(running)
        names = self.names or tuple(free)
        offers = sorted(zip([has[kind] for has in free.values()], names, strict=True), reverse=True)
        shown = ", ".join(f"node {name} has {count} free" for count, name in offers[:NODES_SHOWN])
        more = f", {len(offers) - NODES_SHOWN} more nodes less" if len(offers) > NODES_SHOWN else ""
        what = f"{need} {'GPU' if topology.gpus else 'CPU core'}{'s' * (need != 1)}"
        return f"{what}: {shown or 'there is no node'}{more}"

    def slots(self, topology: Topology) -> int:
        """The number of trials of this topology that run at once."""
        kind = 0 if topology.gpus else 1
        count = sum(node[kind] // size(topology)[kind] for node in self.nodes)
        return count if self.at_once is None else min(count, self.at_once)

    def holds(self, topologies: Iterable[Topology]) -> bool:
        """Whether all these trials fit at once, packed best-fit in decreasing order of size."""
        wanted = sorted(topologies, key=size, reverse=True)
        if self.at_once is not None and len(wanted) > self.at_once:
            return False
        left = [list(node) for node in self.nodes]
        for topology in wanted:
            kind = 0 if topology.gpus else 1
            need = size(topology)[kind]
            able = [node for node in left if node[kind] >= need]
            if not able:
                return False
            min(able, key=lambda node: node[kind])[kind] -= need
        return True

    def check(self, topology: Topology) -> None:
        """Raises ClusterError if no node can hold a trial of this topology."""
        if not self.slots(topology):
            need = f"{topology.gpus} GPUs" if topology.gpus else f"{topology.cores} CPU cores"
            have = ", ".join(f"{gpus} GPUs and {cpus} cores" for gpus, cpus in self.nodes)
            raise ClusterError(
                f"no node can hold a trial that needs {need}: nodes have {have or 'nothing'}; "
                "choose a smaller topology, or a larger cluster.gpus or cluster.cpus"
            )

    def check_apart(self, topology: Topology, shards: int) -> None:
        """Raises ClusterError unless each trial's load finds one core per shard on nodes without its engine.

        Trials on GPUs take no cores. Those on cores share them with the load, and run fewer at a time.
        """
        kind, need = _kind(topology), size(topology)[_kind(topology)]
        able = [i for i, node in enumerate(self.nodes) if node[kind] >= need]
        elsewhere = [sum(self.cores) - self.cores[i] for i in able]
        left = (max if kind else min)(elsewhere, default=0)
        if left < shards:
            raise ClusterError(
                f"workload.placement: apart needs {_cores(shards)} for the load on other nodes than "
                f"the engine's, and those have {left}: add a node, or workload.placement=beside"
            )
        if not kind and sum(self.cores) < (wanted := shards * self.slots(topology)):
            raise ClusterError(
                f"workload.placement: apart needs {_cores(wanted)} for the load of "
                f"{self.slots(topology)} trials at a time, and the nodes have {sum(self.cores)}: fewer "
                "workload.shards, cluster.trials_at_once, or add a node"
            )


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count != 1)}"
