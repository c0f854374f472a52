"""Starts or joins a Ray cluster, and reads what trials may use of its nodes."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.deployment import start_serve
from serving.process.process import generations
from serving.process.reap import reaped
from serving.process.supervise import descendants
from serving.telemetry.nvml import device_count
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import Capacity, ClusterError

# Trials are admitted by these resources; the engines hold Ray's own GPU and CPU. A Serve replica can't live in
# the placement group of its Tune trial, so a trial's devices are counted in both.
BENCH_GPU, BENCH_CPU = "bench_gpu", "bench_cpu"
FILE_CHECK_S = 120.0  # for a worker to start on every node

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}

# Ray picks an address that other machines reach even if it is given 127.0.0.1. This is its switch for systems
# that can't span machines; with it, a single-node Ray listens on loopback alone.
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
}


def local_capacity(config: ClusterConfig) -> Capacity:
    """The capacity that `connected` will have on this machine, without starting anything."""
    cpus = len(os.sched_getaffinity(0)) if config.cpus is None else config.cpus
    gpus = device_count() if config.gpus is None else config.gpus
    nodes = ((gpus, cpus),) * config.nodes
    return Capacity(nodes, (max(cpus, 1),) * config.nodes, config.trials_at_once)


@contextmanager
def connected(config: ClusterConfig) -> Iterator[Capacity]:
    """A running Ray with Serve, for the block. Raises ClusterError."""
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


def missing_files(paths: Sequence[Path], *, apart: bool) -> list[str]:
    """ "PATH on HOST" for each file missing on a node that generates load. `apart`: all nodes may."""
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
    return sorted({line for answer in ray.get(answers, timeout=FILE_CHECK_S) for line in answer})
