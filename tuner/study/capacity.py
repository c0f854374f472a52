"""What trials may use of each node of a cluster, and whether a trial fits. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from serving.topology import Topology


class ClusterError(Exception):
    """The cluster can't run the study. One line: what is missing, where, what would be right."""


def size(topology: Topology) -> tuple[int, int]:
    """What a trial reserves on its node: (GPUs, CPU cores)."""
    return topology.gpus, 0 if topology.gpus else max(topology.cpus, 1)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What trials may use of each node: (GPUs, CPU cores). `cores`: all cores that Ray has on each node.

    `at_once`: the most trials at a time, however many devices are free.
    """

    nodes: tuple[tuple[int, int], ...]
    cores: tuple[int, ...] = ()
    at_once: int | None = None

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
            need = f"{topology.gpus} GPUs" if topology.gpus else f"{topology.cpus} CPU cores"
            have = ", ".join(f"{gpus} GPUs and {cpus} cores" for gpus, cpus in self.nodes)
            raise ClusterError(
                f"no node can hold a trial that needs {need}: nodes have {have or 'nothing'}; "
                "choose a smaller topology, or a larger cluster.gpus or cluster.cpus"
            )

    def check_apart(self, topology: Topology, shards: int) -> None:
        """Raises ClusterError unless each trial's load finds one core per shard on nodes without its engine."""
        kind, need = (0 if topology.gpus else 1), size(topology)[0 if topology.gpus else 1]
        free = [
            max(cores - (0 if topology.gpus else node[1]), 0)
            for node, cores in zip(self.nodes, self.cores, strict=True)
        ]
        able = [i for i, node in enumerate(self.nodes) if node[kind] >= need]
        left = min((sum(free) - free[i] for i in able), default=0)
        if left < shards:
            raise ClusterError(
                f"workload.placement: apart needs {_cores(shards)} for the load on other nodes than "
                f"the engine's, and those have {left} that no trial may take: add a node, or "
                "workload.placement=beside"
            )
        if sum(free) < (wanted := shards * self.slots(topology)):
            raise ClusterError(
                f"workload.placement: apart needs {_cores(wanted)} for the load of "
                f"{self.slots(topology)} trials at a time, and the nodes have {sum(free)} that no "
                "trial may take: fewer workload.shards, or add a node"
            )


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count != 1)}"
