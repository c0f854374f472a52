"""Starts engines through Ray Serve. The only file of this package that imports ray.

A *slot* is the devices that a trial holds on one node; it has one Serve application with one replica. The
replica outlives the trial (a new one costs 5 s of imports); the engine in it does not. Only a call starts an
engine, never Serve: a replica that Serve restarts is empty, so that its trial fails instead of measuring
another engine.
"""

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from serving.endpoint import Endpoint
from serving.errors import EngineRestarted, LaunchError, ServingError
from serving.launch import LaunchSpec, Running, launched
from serving.process.cores import reserved
from serving.topology import Topology

CALL_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
OWNER_POLL_S = 1.0


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

    async def start(self, spec: LaunchSpec) -> Endpoint | ServingError:
        """Starts an engine, in the place of one that still runs."""
        async with self._lock:
            await self._release()
            stack = ExitStack()
            try:
                self._running = await asyncio.to_thread(stack.enter_context, _engine(spec))
            except ServingError as error:
                return error
            self._stack = stack
            return self._running.endpoint

    async def devices(self, count: int) -> tuple[str, ...] | ServingError:
        """The GPUs that engines get here, as CUDA_VISIBLE_DEVICES names them."""
        try:
            return _devices(count)
        except ServingError as error:
            return error

    async def stop(self) -> None:
        """Stops the engine, if one runs."""
        async with self._lock:
            await self._release()

    async def confirm(self, generation: str) -> ServingError | None:
        """None if the engine that was started under `generation` is still running."""
        if self._running is None or self._running.endpoint.generation != generation:
            return EngineRestarted("the Serve replica was restarted during the trial")
        try:
            await asyncio.to_thread(self._running.check)
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
        await self._release()
        await asyncio.to_thread(_delete_own_application)
        await asyncio.sleep(OWNER_POLL_S)  # time for the request to be sent; there is no response
        os._exit(0)


@contextmanager
def _engine(spec: LaunchSpec) -> Iterator[Running]:
    """An engine on the devices that Ray gave to this replica and no others, or on cores of its own."""
    topology = spec.topology
    devices = _devices(topology.gpus)
    with ExitStack() as stack:
        cores: tuple[int, ...] = ()
        if topology.cpus:
            cores = stack.enter_context(reserved(topology.cpus, _cores_offered()))
        running = stack.enter_context(
            launched(
                spec,
                devices=devices,
                cores=cores,
            )
        )
        if topology.cpus and not cores and running.endpoint.pid:
            unpinned = (f"{topology.cpus} of {os.cpu_count()} cores, not pinned",)
            running = replace(running, endpoint=replace(running.endpoint, devices=unpinned))
        yield running


def _devices(count: int) -> tuple[str, ...]:
    import ray

    given = tuple(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", ())))
    if len(given) != count:
        raise LaunchError(f"the trial needs {count} GPUs, but Ray gave its replica {len(given)}")
    return given


def _cores_offered() -> int:
    """How many cores Ray schedules on this machine, over all the nodes that it runs there."""
    import ray

    list_nodes: Any = ray.nodes  # untyped
    nodes = [node for node in list_nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    host = next(node["NodeManagerHostname"] for node in nodes if node["NodeID"] == here)
    of_host = [node for node in nodes if node["NodeManagerHostname"] == host]
    return int(sum(node["Resources"].get("CPU", 0) for node in of_host))


def _delete_own_application() -> None:
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    with contextlib.suppress(RayError, RayServeException):
        serve.delete(serve.get_replica_context().app_name, _blocking=False)


class SlotApplication:
    """The Serve application of one slot, seen from the trial. Use as a context manager."""

    def __init__(
        self, node_id: str, topology: Topology, owner: Any, prefix: str = "wattfront"
    ) -> None:
        self.name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._node_id, self._topology, self._owner = node_id, topology, owner
        self._handle: Any = None

    def __enter__(self) -> "SlotApplication":
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    def devices(self) -> tuple[str, ...]:
        """The GPUs that engines get, as CUDA_VISIBLE_DEVICES names them. Raises ServingError."""
        handle = self._handle = self._handle or self._deploy()
        try:
            gpus = self._topology.gpus
            given: tuple[str, ...] = _answer(handle.devices.remote(gpus), CALL_TIMEOUT_S)
        except EngineRestarted:
            self.delete()
            raise
        return given

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        """An engine for the length of a with block. Raises ServingError.

        A replica that can't stop its engine is deleted with it: the next trial gets a new one.
        """
        handle = self._handle = self._handle or self._deploy()
        deadline_s = spec.engine.start_timeout_s + CALL_TIMEOUT_S
        try:
            endpoint: Endpoint = _answer(handle.start.remote(spec), deadline_s)
        except EngineRestarted:
            self.delete()
            raise
        try:
            yield endpoint
        finally:
            if self._handle is not None:
                self._stop(handle)

    def confirm(self, endpoint: Endpoint) -> None:
        """Raises ServingError unless the engine behind `endpoint` is still the process that was started."""
        _answer(self._handle.confirm.remote(endpoint.generation), CALL_TIMEOUT_S)

    def delete(self) -> None:
        """Deletes the application and its engine; the next call deploys a new one."""
        if self._handle is not None:
            self._handle = None
            delete_application(self.name)

    def _stop(self, handle: Any) -> None:
        try:
            _answer(handle.stop.remote(), STOP_TIMEOUT_S)
        except ServingError:
            self.delete()

    def _deploy(self) -> Any:
        from ray import serve

        gpus, cpus = self._topology.gpus, self._topology.cpus
        # An engine on GPUs takes no core of Ray's: only the GPUs limit how many run at once.
        bundle: dict[str, float] = {"GPU": gpus} if gpus else {"CPU": cpus}
        deployment: Any = serve.deployment(
            EngineReplica,
            name="engine",
            num_replicas=1,
            max_ongoing_requests=8,
            max_constructor_retry_count=1,
            graceful_shutdown_timeout_s=15,
            graceful_shutdown_wait_loop_s=0.05,
            health_check_period_s=1,
            ray_actor_options={"num_gpus": gpus, "num_cpus": cpus},
            placement_group_bundles=[bundle],
            placement_group_bundle_label_selector=[{"ray.io/node-id": self._node_id}],
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
        try:
            return serve.run(deployment.bind(self._owner), name=self.name, route_prefix=None)
        except (RuntimeError, TimeoutError) as error:
            raise LaunchError(f"Ray Serve could not deploy {self.name}: {error}") from error


def _answer(response: Any, timeout_s: float) -> Any:
    """The result of a handle call. Raises ServingError: what the replica returned, or that it is dead."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        result = response.result(timeout_s=timeout_s)
    except (RayError, RayServeException, TimeoutError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineRestarted(f"the Serve replica did not answer: {line}") from error
    if isinstance(result, ServingError):
        raise result
    return result


def start_serve() -> None:
    """Starts Serve without proxies: traffic goes to the engines' own ports. Called once, by the driver."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})


def delete_application(name: str) -> None:
    """Idempotent; returns when the application has no replica left."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    with contextlib.suppress(RayServeException):
        serve.delete(name)
