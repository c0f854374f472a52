"""What runs inside Serve: a replica that holds at most one engine."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from serving.endpoint import Endpoint
from serving.errors import EngineLeft, EngineRestarted, ServingError
from serving.launch import HOST, LaunchSpec, Running, launched
from serving.process.containers import owned as containers
from serving.process.cores import reserved
from serving.process.leftovers import sweep
from serving.process.locks import locked

OWNER_POLL_S = 1.0
HELD_S = 60.0
LOCK_POLL_S = 0.1


class EngineReplica:
    """Runs inside Serve: holds at most one engine, and deletes its application when its owner dies.

    `owner`: the actor whose trials the engine serves; it has a method `present`. Methods return failures of
    engines, since Serve would wrap what they raise.
    """

    def __init__(self, owner: Any) -> None:
        self._stack: ExitStack | None = None
        self._running: Running | None = None
        self._lock = asyncio.Lock()
        self._watch = asyncio.create_task(self._follow(owner))

    async def present(self) -> None:
        """Answers: the replica is up."""

    async def start(self, spec: LaunchSpec, devices: tuple[str, ...]) -> Endpoint | ServingError:
        """Starts an engine on these GPUs, in the place of one that still runs."""
        async with self._lock:
            stack = ExitStack()
            try:
                await self._release()
                self._running = await asyncio.to_thread(stack.enter_context, _engine(spec, devices))
            except ServingError as error:
                return error
            self._stack = stack
            return self._running.endpoint

    async def stop(self) -> ServingError | None:
        """Stops the engine, if one runs. None if nothing of it is left."""
        async with self._lock:
            try:
                await self._release()
            except ServingError as error:
                return error
        return None

    async def confirm(self, generation: str, canary: bool = False) -> ServingError | None:
        """None if the engine that was started under `generation` is still running; `canary`: and works."""
        if self._running is None or self._running.endpoint.generation != generation:
            return EngineRestarted("the Serve replica was restarted during the trial")
        try:
            running = self._running
            await asyncio.to_thread(running.canary if canary else running.check)
        except ServingError as error:
            return error
        return None

    async def _release(self) -> None:
        stack, self._stack, self._running = self._stack, None, None
        if stack is not None:
            await asyncio.to_thread(stack.close)

    async def _follow(self, owner: Any) -> None:
        """Ends engine and application with their owner: Serve outlives drivers, and restarts replicas.

        A call to the owner fails as soon as it is dead. The exit also ends an engine that is still starting.
        """
        from ray.exceptions import RayError

        while True:
            try:
                await owner.present.remote()
            except RayError:
                break
            await asyncio.sleep(OWNER_POLL_S)
        with contextlib.suppress(ServingError):
            await self._release()
        await asyncio.to_thread(_delete_own_application)
        await asyncio.sleep(OWNER_POLL_S)  # time for the request to be sent; there is no response
        os._exit(0)


@contextmanager
def _engine(spec: LaunchSpec, devices: tuple[str, ...]) -> Iterator[Running]:
    """An engine on the devices that Ray gave to the slot and no others, or on cores of its own."""
    topology = spec.topology
    sweep()
    container = spec.engine.container if spec.twin is None else None
    containers.sweep([] if container is None else [container.runtime])
    with ExitStack() as stack:
        stack.enter_context(_held(devices))
        cores: tuple[int, ...] = ()
        if topology.cpus:
            cores = stack.enter_context(reserved(topology.cores, _cores_offered()))
        running = stack.enter_context(
            launched(
                spec,
                devices=devices,
                cores=cores,
                host=_address() if spec.apart else HOST,
            )
        )
        if topology.cpus and not cores and running.endpoint.pid:
            unpinned = (f"{topology.cores} of {os.cpu_count()} cores, not pinned",)
            running = replace(running, endpoint=replace(running.endpoint, devices=unpinned))
        yield running


def _address() -> str:
    """At which the nodes of the cluster reach this one."""
    import ray

    util: Any = ray.util  # untyped
    return str(util.get_node_ip_address())


@contextmanager
def _held(devices: tuple[str, ...]) -> Iterator[None]:
    """Holds these GPUs. Waits for the engine of a slot that died, whose GPUs Ray gives away before it ended.

    Raises EngineLeft.
    """
    if not devices:
        yield
        return
    nodes, here = _nodes_of_host()
    place = sorted(node["NodeID"] for node in nodes).index(here)
    deadline = time.monotonic() + HELD_S
    with ExitStack() as stack:
        for device in devices:
            while (lock := locked(f"gpu-{place}-{device}")) is None:
                if time.monotonic() > deadline:
                    raise EngineLeft(
                        f"GPU {device} is still held by another engine after {HELD_S:.0f} s"
                    )
                time.sleep(LOCK_POLL_S)
            stack.callback(os.close, lock)
        yield


def _nodes_of_host() -> tuple[list[dict[str, Any]], str]:
    """The nodes that Ray runs on this machine, and the id of this process's."""
    import ray

    list_nodes: Any = ray.nodes  # untyped
    nodes = [node for node in list_nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    host = next(node["NodeManagerHostname"] for node in nodes if node["NodeID"] == here)
    return [node for node in nodes if node["NodeManagerHostname"] == host], here


def _cores_offered() -> int:
    """How many cores Ray schedules on this machine, over all the nodes that it runs there."""
    nodes, _ = _nodes_of_host()
    return int(sum(node["Resources"].get("CPU", 0) for node in nodes))


def _delete_own_application() -> None:
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    with contextlib.suppress(RayError, RayServeException):
        serve.delete(serve.get_replica_context().app_name, _blocking=False)
