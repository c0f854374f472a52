"""Ray: which nodes there are and what trials may take of them."""

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.deployment import start_serve
from serving.process.process import generations
from serving.process.reap import reaped
from serving.process.supervise import descendants
from serving.telemetry.nvml import device_count
from serving.topology import Topology
from tuner.config.groups.cluster import ClusterConfig

# Trials are admitted by these; the engines themselves hold Ray's own GPU and CPU. A Serve replica can't live in
# the placement group of the Tune trial that it belongs to, so what a trial takes is counted in both currencies.
BENCH_GPU, BENCH_CPU = "bench_gpu", "bench_cpu"
LOOK_S = 120.0  # for a worker on every node

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}


# Ray looks for an address that other machines reach, even where it is told 127.0.0.1. This is its switch for
# systems on which it can't span machines: with it, everything listens on loopback alone.
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
}


class ClusterError(Exception):
    """The cluster can't run the study. One line: what is missing, where, what would be right."""


def size(topology: Topology) -> tuple[int, int]:
    """What a trial takes of its node: (GPUs, CPU cores)."""
    return topology.gpus, 0 if topology.gpus else max(topology.cpus, 1)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What trials may take, node by node: (GPUs, CPU cores). `cores`: all that Ray has there.

    `at_once`: the most trials at a time, whatever devices are free.
    """

    nodes: tuple[tuple[int, int], ...]
    cores: tuple[int, ...] = ()
    at_once: int | None = None

    def slots(self, topology: Topology) -> int:
        """How many trials of this topology run at once."""
        kind = 0 if topology.gpus else 1
        count = sum(node[kind] // size(topology)[kind] for node in self.nodes)
        return count if self.at_once is None else min(count, self.at_once)

    def holds(self, topologies: Iterable[Topology]) -> bool:
        """Whether trials of these can run all at once: the largest first, each where it leaves least."""
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
        if not self.slots(topology):
            need = f"{topology.gpus} GPUs" if topology.gpus else f"{topology.cpus} CPU cores"
            have = ", ".join(f"{gpus} GPUs and {cpus} cores" for gpus, cpus in self.nodes)
            raise ClusterError(
                f"no node can hold a trial that needs {need}: nodes have {have or 'nothing'}; "
                "choose a smaller topology, or a larger cluster.gpus or cluster.cpus"
            )

    def check_apart(self, topology: Topology, shards: int) -> None:
        """Whether the load of each trial finds a core a shard on other nodes than its engine's."""
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


def local_capacity(config: ClusterConfig) -> Capacity:
    """What `connected` will offer on this machine, without starting anything."""
    cpus = len(os.sched_getaffinity(0)) if config.cpus is None else config.cpus
    gpus = device_count() if config.gpus is None else config.gpus
    nodes = ((gpus, cpus),) * config.nodes
    return Capacity(nodes, (max(cpus, 1),) * config.nodes, config.trials_at_once)


@contextmanager
def connected(config: ClusterConfig) -> Iterator[Capacity]:
    """Ray for the length of a with block. Raises ClusterError."""
    settings = {**QUIET, **ALONE} if config.kind == "local" else QUIET
    os.environ.update({key: value for key, value in settings.items() if key not in os.environ})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    start = _start_local if config.kind == "local" else _join
    cluster = start(ray, config)
    with reaped(sorted(generations(descendants(os.getpid()))) if config.kind == "local" else []):
        try:
            start_serve()
            yield _capacity(ray, config)
        finally:
            ray.shutdown()
            if cluster is not None:
                cluster.shutdown()


def _start_local(ray: Any, config: ClusterConfig) -> Any:
    capacity = local_capacity(config)
    gpus, cpus = capacity.nodes[0]
    node: dict[str, Any] = {
        "num_cpus": max(cpus, 1),
        "num_gpus": gpus,
        "resources": {BENCH_GPU: float(gpus), BENCH_CPU: float(cpus)},
    }
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if config.nodes == 1:
        ray.init(
            address="local", _node_ip_address="127.0.0.1", configure_logging=False, **node, **quiet
        )
        return None
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "node_ip_address": "127.0.0.1", "include_dashboard": False},
    )
    for _ in range(config.nodes - 1):
        cluster.add_node(**node, node_ip_address="127.0.0.1")
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    return cluster


def _join(ray: Any, config: ClusterConfig) -> None:
    try:
        ray.init(address=config.address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray cluster at cluster.address={config.address or 'auto'}: {error}; "
            "start one with `ray start --head`, or use cluster=local"
        ) from error


def _capacity(ray: Any, config: ClusterConfig) -> Capacity:
    nodes, cores = [], []
    for node in _alive(ray):
        has = node["Resources"]
        gpus, cpus = int(has.get(BENCH_GPU, 0)), int(has.get(BENCH_CPU, 0))
        real = int(has.get("GPU", 0))
        if real and not gpus:
            raise ClusterError(
                f"node {node['NodeManagerHostname']} has {real} GPUs but no resource {BENCH_GPU}: "
                f"start it with `ray start --resources='{{\"{BENCH_GPU}\": {real}}}'`"
            )
        nodes.append((gpus, cpus))
        cores.append(int(has.get("CPU", 0)))
    return Capacity(tuple(nodes), tuple(cores), config.trials_at_once)


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def absent(paths: Sequence[Path], *, apart: bool) -> list[str]:
    """ "PATH on HOST" for each file that a node lacks on which it is read: a load is made where it runs."""
    import ray

    def lacking(files: list[str]) -> list[str]:
        host = socket.gethostname()
        return [f"{path} on {host}" for path in files if not os.path.isfile(path)]  # noqa: PTH113

    remote: Any = ray.remote  # typed for decorators alone
    look = remote(num_cpus=0, max_retries=0)(lacking)
    files = [str(path) for path in paths]
    answers = [
        look.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote(files)
        for node in _alive(ray)
        if {BENCH_GPU, BENCH_CPU} & node["Resources"].keys() or apart
    ]
    return sorted({line for answer in ray.get(answers, timeout=LOOK_S) for line in answer})
