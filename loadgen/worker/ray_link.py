"""Worker processes on other nodes of a Ray cluster: an actor starts the process and relays its messages.

The process that sends requests is the same as on one machine, and no thread of Ray runs in it. About four
calls a second per worker, none per request.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.clock import now_ns
from loadgen.errors import ShardLost
from loadgen.worker.group import Links
from loadgen.worker.link import Link, LocalLink
from loadgen.worker.messages import FromWorker, Ping, Pong, ToWorker

PLACE_S = 60.0  # for a CPU to become free and the actor's process to start
CALL_S = 30.0
CLOSE_S = 10.0
_RECEIVE_S = 1.0  # a call that waits for messages returns after so long without any
_GROUPS = {"send": 1, "receive": 1}  # a thread each: order is kept, and neither blocks the other


class Relay:
    """The actor on the worker's node."""

    def __init__(self) -> None:
        self._link = LocalLink.start()

    def clock_ns(self) -> int:
        """The monotonic clock, which all processes of a node share."""
        return now_ns()

    def place(self) -> tuple[str, int]:
        """The host, and the worker's process id there."""
        return socket.gethostname(), self._link.pid

    def send(self, message: ToWorker) -> None:
        """Passes a message on."""
        self._link.send(message)

    def receive(self, timeout_s: float) -> list[FromWorker]:
        """As in `Link`."""
        return self._link.receive(timeout_s)

    def close(self) -> None:
        """Ends the worker."""
        self._link.close()


class RayLink:
    """A `Link` over a Relay. Calls are asynchronous, so that no worker waits for another."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._place = actor.place.remote()
        self._host, self.pid = "an unknown host", 0
        self._inbox: list[FromWorker] = []
        self._sends: list[Any] = []
        self._receiving: Any = None

    def placed(self, timeout_s: float) -> bool:
        """Whether the actor started in time."""
        import ray

        if not ray.wait([self._place], timeout=timeout_s)[0]:
            return False
        self._host, self.pid = self._result(self._place)
        return True

    def send(self, message: ToWorker) -> None:
        """Does not wait; an error is raised by the next `receive`."""
        if isinstance(message, Ping):
            worker_ns = self._result(self._actor.clock_ns.remote())
            self._inbox.append(Pong(message.sent_ns, worker_ns))
        else:
            call = self._actor.send.options(concurrency_group="send")
            self._sends.append(call.remote(message))

    def receive(self, timeout_s: float) -> list[FromWorker]:
        """As in `Link`."""
        import ray

        if self._inbox:
            messages, self._inbox = self._inbox, []
            return messages
        if self._sends:
            sent, self._sends = ray.wait(self._sends, num_returns=len(self._sends), timeout=0)
            for reference in sent:
                self._result(reference)
        if self._receiving is None:
            call = self._actor.receive.options(concurrency_group="receive")
            self._receiving = call.remote(_RECEIVE_S)
        if not ray.wait([self._receiving], timeout=timeout_s)[0]:
            return []
        receiving, self._receiving = self._receiving, None
        received: list[FromWorker] = self._result(receiving)
        return received

    def _result(self, reference: Any) -> Any:
        import ray

        try:
            return ray.get(reference, timeout=CALL_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ShardLost):
                raise ShardLost(f"{error.cause} (on {self._host})") from error
            raise
        except ray.exceptions.RayError as error:
            what = f"the Ray actor of a worker process on {self._host} is gone"
            raise ShardLost(f"{what}: {_line(error)}") from error

    def close(self) -> None:
        """A worker ends with its actor in any case; asking first lets it end in order."""
        import ray

        if self.pid:
            ray.wait([self._actor.close.remote()], timeout=CLOSE_S)
        ray.kill(self._actor)


def _line(error: Exception) -> str:
    """Ray's messages are long. Why an actor could not start is in the last line, else the first says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]


def ray_links(node_ids: Sequence[str]) -> Links:
    """Workers spread over these nodes; each takes one CPU. Ray must be initialised."""

    def start(workers: int) -> Sequence[Link]:
        import ray

        cpus = sum(_cpus(node) for node in _nodes() if node["NodeID"] in node_ids)
        if cpus < workers:
            raise ShardLost(
                f"{workers} shards need one CPU each, and the nodes for the load have {cpus}: "
                "use fewer shards, or more nodes"
            )
        remote: Any = ray.remote  # its types allow decorators only
        relay = remote(
            num_cpus=1,
            max_restarts=0,
            concurrency_groups=_GROUPS,
            label_selector={"ray.io/node-id": f"in({','.join(node_ids)})"},
            scheduling_strategy="SPREAD",
        )(Relay)
        links = [RayLink(relay.remote()) for _ in range(workers)]
        try:
            _await_all(links)
        except ShardLost:
            for link in links:
                link.close()
            raise
        return links

    return start


def _await_all(links: Sequence[RayLink]) -> None:
    deadline = time.monotonic() + PLACE_S
    waiting = [link for link in links if not link.placed(max(deadline - time.monotonic(), 0))]
    if waiting:
        raise ShardLost(
            f"{len(waiting)} of {len(links)} shards found no free CPU on the nodes for the load "
            f"within {PLACE_S:g} s: other work occupies them"
        )


def links_apart() -> Links:
    """Workers on other nodes than that of this actor or task."""
    import ray

    return ray_links(nodes_apart_from(ray.get_runtime_context().get_node_id()))


def nodes_apart_from(node_id: str) -> list[str]:
    """The other live nodes that have a CPU. Raises ShardLost if there is none.

    Only those without a GPU, if there are any: the others may run an engine.
    """
    nodes = [node for node in _nodes() if node["NodeID"] != node_id and _cpus(node)]
    if not nodes:
        raise ShardLost("placement apart: the cluster has no other node with a CPU for the load")
    bare = [node for node in nodes if not node["Resources"].get("GPU", 0)]
    return [str(node["NodeID"]) for node in bare or nodes]


def _cpus(node: Mapping[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _nodes() -> list[dict[str, Any]]:
    import ray

    every: Any = ray.nodes  # untyped
    return [node for node in every() if node["Alive"]]
