"""Starts or joins a Ray cluster, and reads what trials may use of its nodes."""

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from serving.deployment import start_serve
from serving.process.environ import ACCELERATED, RAY
from serving.process.generation import generations
from serving.process.reap import reaped
from serving.process.supervise import descendants
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import Capacity, ClusterError
from tuner.study.environment import narrowed
from tuner.study.joining.address import address_of, authenticated
from tuner.study.joining.exposure import open_cluster
from tuner.study.joining.nodes import alive_nodes, check_imports, check_versions, shipped
from tuner.study.local_cluster import QUIET, isolated, start_local, variables
from tuner.study.slots.deadline import Say, ending_children, waiting

JOIN_S = 300.0
START_S = 300.0  # for each node that is started on this machine
SERVE_S = 180.0
SHUTDOWN_S = 60.0
START_ATTEMPTS = 3
LOOK_EVERY_S = 1.0
SLOT_GROUPS: set[str] = set()  # the ids of our slots' placement groups


@contextmanager
def connected(
    config: ClusterConfig,
    inherits: Iterable[str] = (*RAY, *ACCELERATED),
    say: Say = lambda line: None,
) -> Iterator[Capacity]:
    """A running Ray with Serve, for the block. Raises ClusterError.

    `inherits`: the variables that the processes of a local one get of our environment, names or patterns. `say`
    gets what there is to know before the study: what is waited for, and which nodes get our code.
    """
    quiet = {key: value for key, value in QUIET.items() if key not in os.environ}
    start = _started(config, inherits, say) if config.kind == "local" else _joined(config, say)
    with variables(quiet), start:
        with waiting("Ray Serve", SERVE_S, say):
            start_serve()
            capacity = capacity_now(config)
        yield capacity


@contextmanager
def joined(config: ClusterConfig, say: Say = lambda line: None) -> Iterator[list[dict[str, Any]]]:
    """The nodes of a cluster that runs, to ask them, for the block. Raises ClusterError."""
    quiet = {key: value for key, value in QUIET.items() if key not in os.environ}
    with variables(quiet), _joined(config, say):
        yield alive_nodes()


@contextmanager
def _started(config: ClusterConfig, inherits: Iterable[str], say: Say) -> Iterator[None]:
    with isolated() as folder:
        import ray

        _start_none_unasked(ray)
        logging.getLogger("ray").setLevel(logging.ERROR)
        before = generations(descendants(os.getpid()))
        with narrowed(inherits), waiting("Ray on this machine", START_S * config.nodes, say):
            cluster = started_local(ray, config, say)
        with reaped(sorted(generations(descendants(os.getpid())) - before), folder):
            try:
                yield
            finally:
                _shut_down(ray, cluster, say)


def started_local(ray: Any, config: ClusterConfig, say: Say) -> Any:
    """As `start_local`, again where a busy machine takes longer than Ray waits. Raises ClusterError."""
    for _ in range(START_ATTEMPTS - 1):
        try:
            return _started_once(ray, config)
        except ClusterError as error:
            say(f"{error}; it is started again")
    return _started_once(ray, config)


def _started_once(ray: Any, config: ClusterConfig) -> Any:
    try:
        with ending_children():
            return start_local(ray, config)
    except Exception as error:  # Ray 2.60 raises the bare class after 30 s (_private/node.py)
        if type(error) is not Exception and not isinstance(error, RuntimeError | OSError):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        load = f"{os.getloadavg()[0]:.0f} processes want {os.cpu_count()} cores"
        raise ClusterError(f"Ray on this machine did not start ({load}): {line}") from error


def _start_none_unasked(ray: Any) -> None:
    """For the rest of this process. What RAY_ENABLE_AUTO_CONNECT=0 would be if Ray was not imported yet.

    Threads of Serve may call Ray after its end: that would start another, and Ray ends a process that lost one.
    """
    ray._private.auto_init_hook.enable_auto_connect = False


def _shut_down(ray: Any, cluster: Any, say: Say) -> None:
    """Says so if Ray does not shut down: the results are in the ledger, and the report is still to come."""
    try:
        with waiting("Ray to shut down", SHUTDOWN_S, say):
            ray.shutdown()
            if cluster is not None:
                cluster.shutdown()
    except ClusterError as error:
        atexit.unregister(ray.shutdown)  # it would wait again
        say(str(error))


@contextmanager
def _joined(config: ClusterConfig, say: Say) -> Iterator[None]:
    address = address_of(config.address)
    with authenticated(address) as asked:
        import ray

        _start_none_unasked(ray)
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if not asked:
                say(open_cluster(address))
            with waiting(f"the Ray cluster at {address}", JOIN_S, say):
                _connect(ray, address)
                if lacking := check_versions(alive_nodes()):
                    say(
                        f"Wattfront is missing or another version on {', '.join(lacking)}: this "
                        "machine's is sent to all nodes"
                    )
                    ray.shutdown()
                    _connect(ray, address, shipped())
                    check_imports(alive_nodes())
            yield
        finally:
            _shut_down(ray, None, say)


def _connect(ray: Any, address: str, environment: dict[str, Any] | None = None) -> None:
    try:
        ray.init(
            address=address,
            runtime_env=environment,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError) as error:
        line = next((each.strip() for each in str(error).splitlines() if each.strip()), "")
        raise ClusterError(f"the Ray cluster at {address}: {line}") from error


def capacity_now(config: ClusterConfig) -> Capacity:
    """What trials may use of the live nodes, and what other work leaves of it. Ray must be initialised."""
    import ray

    state: Any = ray._private.state  # Ray has no public function for what is available on a node
    nodes, available = alive_nodes(), state.available_resources_per_node()
    ours = _held_by_slots()
    offers, left = [], []
    for node in nodes:
        total, free = node["Resources"], available.get(node["NodeID"], node["Resources"])
        offer, rest = [], []
        for kind, most in (("GPU", config.gpus), ("CPU", config.cpus)):
            has = int(total.get(kind, 0))
            offer.append(has if most is None else min(has, most))
            rest.append(int(free.get(kind, 0) + ours.get((node["NodeID"], kind), 0)))
        offers.append((offer[0], offer[1]))
        left.append((min(offer[0], rest[0]), min(offer[1], rest[1])))
    return Capacity(
        tuple(offers),
        tuple(int(node["Resources"].get("CPU", 0)) for node in nodes),
        config.trials_at_once,
        ids=tuple(node["NodeID"] for node in nodes),
        names=tuple(node["NodeManagerHostname"] for node in nodes),
        left=tuple(left),
    )


def watched_capacity(config: ClusterConfig, first: Capacity) -> Callable[[], Capacity]:
    """Reads the capacity at most every LOOK_EVERY_S."""
    known, read_s = first, time.monotonic()

    def look() -> Capacity:
        nonlocal known, read_s
        if time.monotonic() - read_s >= LOOK_EVERY_S:
            known = capacity_now(config)
            read_s = time.monotonic()
        return known

    return look


def _held_by_slots() -> dict[tuple[str, str], float]:
    """(node, kind of device) → how many our slots hold there; idle ones serve the next trials."""
    import ray

    util: Any = ray.util  # untyped
    held: dict[tuple[str, str], float] = {}
    for identity, group in util.placement_group_table().items():
        if identity not in SLOT_GROUPS or group["state"] != "CREATED":
            continue
        for index, bundle in group["bundles"].items():
            node = group["bundles_to_node_id"][index]
            for kind, count in bundle.items():
                held[node, kind] = held.get((node, kind), 0) + count
    return held
