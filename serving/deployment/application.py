"""A slot's application as its trials see it: every call to Serve has a deadline."""

import contextlib
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

from serving.deployment.replica import EngineReplica
from serving.endpoint import Endpoint
from serving.engines.ready import CANARY_S, DYING_S
from serving.errors import DeployFailed, EngineRestarted, LaunchError, ServingError
from serving.launch import LaunchSpec
from serving.launch.gang import ROUTER_READY_S
from serving.process.containers import owned as containers
from serving.process.containers.images import ANSWER_S
from serving.process.leftovers import end, marked, new_mark
from serving.process.within import within
from serving.topology import Topology

CALL_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
DEPLOY_TIMEOUT_S = 180.0
SAY_AFTER_S = 15.0
DELETE_TIMEOUT_S = 90.0
_RAY_NOISE = re.compile(r"\x1b\[[0-9;]*m")


def devices_of_actor() -> tuple[str, ...]:
    """The GPUs that Ray gave to this actor, as CUDA_VISIBLE_DEVICES names them."""
    import ray

    return tuple(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", ())))


class SlotApplication:
    """The Serve application of one slot, seen from the trial. Use as a context manager.

    `owner`: the actor that holds the devices in Ray, `devices` its GPUs. The replica itself reserves nothing:
    it can't live in the placement group of a Tune trial, and would be counted beside it.
    """

    def __init__(
        self,
        node_id: str,
        topology: Topology,
        owner: Any,
        devices: tuple[str, ...] = (),
        prefix: str = "wattfront",
    ) -> None:
        self.name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._node_id, self._topology, self._owner = node_id, topology, owner
        self._devices = devices
        self._handle: Any = None
        self._wait: tuple[str, float, float] | None = None

    def __enter__(self) -> "SlotApplication":
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    @property
    def waits(self) -> str:
        """What it has waited for, how long, and when it gives up; empty before SAY_AFTER_S. For any thread."""
        what, since, at_most_s = self._wait or ("", inf, 0.0)
        waited_s = time.monotonic() - since
        if waited_s < SAY_AFTER_S:
            return ""
        return f"{what} for {waited_s:.0f} s; it gives up after {at_most_s:.0f} s"

    def devices(self) -> tuple[str, ...]:
        """The GPUs that engines get, as CUDA_VISIBLE_DEVICES names them. Raises ServingError."""
        if len(self._devices) != (count := self._topology.gpus):
            raise LaunchError(
                f"the trial needs {count} GPUs, but Ray gave its slot {len(self._devices)}"
            )
        return self._devices

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        """An engine for the length of a with block. Raises ServingError.

        A replica that can't stop its engine is deleted with it: the next trial gets a new one. Whatever the
        replica says, no process of the engine is left after the block, or EngineLeft is raised.
        """
        devices, spec = self.devices(), replace(spec, mark=new_mark())
        handle = self._handle = self._handle or self._deploy()
        fetch_s, routed_s = _fetch_s(spec), ROUTER_READY_S if spec.topology.routed else 0.0
        deadline_s = spec.engine.start_timeout_s + routed_s + CALL_TIMEOUT_S + fetch_s
        stop_s = STOP_TIMEOUT_S + spec.engine.stop_grace_s * len(spec.topology.members)
        waits = f"for the image {_image(spec)} and its engine" if fetch_s else ""
        try:
            try:
                with self._waiting(waits, deadline_s) if waits else contextlib.nullcontext():
                    endpoint: Endpoint = _answer(handle.start.remote(spec, devices), deadline_s)
            except EngineRestarted:
                self.delete()
                raise
            try:
                yield endpoint
            finally:
                if self._handle is not None:
                    self._stop(handle, stop_s)
        finally:
            end(lambda: marked(spec.mark))
            containers.remove(spec.mark)

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None:
        """Raises ServingError unless the engine behind `endpoint` is still the process that was started.

        `canary`: and answers a request of one token.
        """
        engines = len(endpoint.members) + 1  # one after the other, the router the last
        timeout_s = CALL_TIMEOUT_S + (engines * (CANARY_S + DYING_S) if canary else 0.0)
        _answer(self._handle.confirm.remote(endpoint.generation, canary), timeout_s)

    def delete(self) -> None:
        """Deletes the application and its engine; the next call deploys a new one."""
        if self._handle is not None:
            self._handle = None
            with self._waiting("for Ray Serve to delete a replica", DELETE_TIMEOUT_S):
                delete_application(self.name)

    @contextmanager
    def _waiting(self, what: str, at_most_s: float) -> Iterator[None]:
        before, self._wait = self._wait, (what, time.monotonic(), at_most_s)
        try:
            yield
        finally:
            self._wait = before

    def _stop(self, handle: Any, timeout_s: float) -> None:
        try:
            with self._waiting("for its engine to stop", timeout_s):
                _answer(handle.stop.remote(), timeout_s)
        except ServingError:
            self.delete()

    def _deploy(self) -> Any:
        from ray import serve

        deployment: Any = serve.deployment(
            EngineReplica,
            name="engine",
            num_replicas=1,
            max_ongoing_requests=8,
            max_constructor_retry_count=1,
            graceful_shutdown_timeout_s=15,
            graceful_shutdown_wait_loop_s=0.05,
            health_check_period_s=1,
            ray_actor_options={
                "num_gpus": 0,
                "num_cpus": 0,
                "label_selector": {"ray.io/node-id": self._node_id},
            },
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
        return self._running(deployment.bind(self._owner))

    def _running(self, bound: Any) -> Any:
        """Waits by a call that only a replica can answer: Serve's own wait polls, without a deadline."""
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        given_up = threading.Event()

        def deploy() -> Any:
            target = serve.RunTarget(bound, self.name, route_prefix=None)
            (handle,) = serve.run_many(
                [target],
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
            if given_up.is_set():  # Serve got it after the deletion
                serve.delete(self.name)
            return handle

        try:
            with self._waiting("for Ray Serve to deploy a replica", DEPLOY_TIMEOUT_S):
                end_s = time.monotonic() + DEPLOY_TIMEOUT_S
                handle = within(DEPLOY_TIMEOUT_S, deploy)
                handle.present.remote().result(timeout_s=max(0.0, end_s - time.monotonic()))
                return handle
        except (RuntimeError, TimeoutError, RayError, RayServeException) as error:
            given_up.set()
            delete_application(self.name)
            raise DeployFailed(f"Ray Serve could not deploy {self.name}: {_line(error)}") from error


def _image(spec: LaunchSpec) -> str:
    """The image of its container; empty where it runs in none."""
    return spec.engine.container.image if spec.engine.container and spec.twin is None else ""


def _fetch_s(spec: LaunchSpec) -> float:
    """How long its image may take to be fetched, and its runtime to answer."""
    container = spec.engine.container
    return container.pull_timeout_s + ANSWER_S if container and _image(spec) else 0.0


def _answer(response: Any, timeout_s: float) -> Any:
    """The result of a handle call. Raises ServingError: what the replica returned, or that it is dead."""
    from ray.exceptions import RayError, RayTaskError
    from ray.serve.exceptions import RayServeException

    try:
        result = response.result(timeout_s=timeout_s)
    except RayTaskError as error:  # an exception of the replica, which is alive
        raise LaunchError(f"the engine can't be started: {_line(error.cause or error)}") from error
    except (RayError, RayServeException, TimeoutError) as error:
        raise EngineRestarted(f"the Serve replica did not answer: {_line(error)}") from error
    if isinstance(result, ServingError):
        raise result
    return result


def _line(error: BaseException) -> str:
    """The first line, without the colours and process names that Ray puts into it."""
    lines = [_RAY_NOISE.sub("", line).strip() for line in str(error).splitlines()]
    said = next(filter(None, lines), "")
    plain = isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("ray.")
    return said if said and plain else f"{type(error).__name__}: {said}".removesuffix(": ")


def start_serve() -> None:
    """Starts Serve without proxies: traffic goes to the engines' own ports. Called once, by the driver."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})


def delete_application(name: str) -> None:
    """Idempotent; returns when the application has no replica left, or Serve does not answer.

    Its replica ends with its owner in any case.
    """
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    with contextlib.suppress(RayServeException, RayError, TimeoutError):
        within(DELETE_TIMEOUT_S, lambda: serve.delete(name))
