"""Starts a Ray cluster on this machine for one study: on loopback, with a token of its own."""

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.telemetry.nvml import device_count
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import Capacity

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}

# Ray picks an address that other machines reach even if it is given 127.0.0.1. The first is its switch for
# systems that can't span machines: with it, the driver and Ray's own processes listen on loopback, those of
# several nodes too. Serve's replicas listen on all interfaces all the same: only the token protects them.
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
}
TOKEN, TOKEN_PATH, MODE, FOLDER = (
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_AUTH_MODE",
    "RAY_TMPDIR",
)
DEBUGGER = "PYTHONBREAKPOINT"
# Ray puts sockets below its folder, and their paths have at most 107 bytes.
LONGEST_FOLDER = 24


def local_capacity(config: ClusterConfig) -> Capacity:
    """The capacity that `connected` will have on this machine, without starting anything."""
    cpus = len(os.sched_getaffinity(0)) if config.cpus is None else config.cpus
    gpus = device_count() if config.gpus is None else config.gpus
    nodes = ((gpus, cpus),) * config.nodes
    return Capacity(nodes, (max(cpus, 1),) * config.nodes, config.trials_at_once)


@contextmanager
def variables(settings: Mapping[str, str | None]) -> Iterator[None]:
    """Sets environment variables for the block; None removes one."""
    before = {name: os.environ.get(name) for name in settings}
    try:
        _set(settings)
        yield
    finally:
        _set(before)


def _set(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def isolated() -> Iterator[str]:
    """A Ray that is started in the block asks for a token of its own, and keeps its files in a private folder.

    Nothing of it stays: no token in the home folder, which would make other clusters of the user ask for it,
    no change of the environment, no session folder, and Ray's record of the user's own cluster is untouched.
    Yields the folder.
    """
    base = os.environ.get(FOLDER) or tempfile.gettempdir()
    with tempfile.TemporaryDirectory(
        prefix="wf-ray-",
        dir=base if len(base) <= LONGEST_FOLDER else "/tmp",
        ignore_cleanup_errors=True,
    ) as folder:
        token = Path(folder, "auth_token")
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        own = {MODE: "token", TOKEN: None, TOKEN_PATH: str(token), FOLDER: folder, **ALONE}
        own[DEBUGGER] = os.environ.get(DEBUGGER)  # Ray sets it
        try:
            with variables(own), _alone_here():
                reread_authentication()
                yield folder
        finally:
            reread_authentication()


@contextmanager
def _alone_here() -> Iterator[None]:
    """In this process too, whose Ray may have been imported before ALONE was set."""
    import ray

    constants: Any = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def reread_authentication() -> None:
    """Ray's core caches mode and token of this process."""
    import ray

    core: Any = ray._raylet  # without types
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()


def start_local(ray: Any, config: ClusterConfig) -> Any:
    """Starts Ray on loopback; returns the `Cluster`, None for a single node."""
    capacity = local_capacity(config)
    gpus, cpus = capacity.nodes[0]
    node: dict[str, Any] = {"num_cpus": max(cpus, 1), "num_gpus": gpus}
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
