"""Shards on other nodes of a Ray cluster: an actor starts the process there and passes messages on.

The actor only carries: the process that keeps the time is the same as on one machine, and has no
thread of Ray's in it. About four calls a second and shard, none a request.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.clock import now_ns
from loadgen.errors import ShardLost
from loadgen.worker.group import Links
from loadgen.worker.link import Link, LocalLink
from loadgen.worker.messages import FromShard, Ping, Pong, ToShard

PLACE_S = 60.0  # for a CPU to come free and the actor's process to start
CALL_S = 30.0
CLOSE_S = 10.0
_HEAR_S = 1.0  # a call that waits for messages comes back after so long without any
_GROUPS = {"send": 1, "receive": 1}  # a thread each: order is kept, and neither waits for the other


class Relay:
    """Runs as an actor on the shard's node."""

    def __init__(self) -> None:
        self._link = LocalLink.start()

    def clock_ns(self) -> int:
        """All processes of a node have one monotonic clock."""
        return now_ns()

    def place(self) -> tuple[str, int]:
        """The host, and the process of the shard there."""
        return socket.gethostname(), self._link.pid

    def send(self, message: ToShard) -> None:
        self._link.send(message)

    def receive(self, timeout_s: float) -> list[FromShard]:
        return self._link.receive(timeout_s)

    def close(self) -> None:
        self._link.close()


class RayLink:
    """Calls are under way while whoever conducts does something else: no shard waits for another."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._place = actor.place.remote()
        self._host, self.pid = "a host not known yet", 0
        self._inbox: list[FromShard] = []
        self._sends: list[Any] = []
        self._hearing: Any = None

    def placed(self, timeout_s: float) -> bool:
        """Whether the actor is there in time."""
        import ray

        if not ray.wait([self._place], timeout=timeout_s)[0]:
            return False
        self._host, self.pid = self._result(self._place)
        return True

    def send(self, message: ToShard) -> None:
        """Does not wait; what goes wrong is raised by the next `receive`."""
        if isinstance(message, Ping):
            shard_ns = self._result(self._actor.clock_ns.remote())
            self._inbox.append(Pong(message.sent_ns, shard_ns))
        else:
            call = self._actor.send.options(concurrency_group="send")
            self._sends.append(call.remote(message))

    def receive(self, timeout_s: float) -> list[FromShard]:
        import ray

        if self._inbox:
            messages, self._inbox = self._inbox, []
            return messages
        if self._sends:
            sent, self._sends = ray.wait(self._sends, num_returns=len(self._sends), timeout=0)
            for reference in sent:
                self._result(reference)
        if self._hearing is None:
            call = self._actor.receive.options(concurrency_group="receive")
            self._hearing = call.remote(_HEAR_S)
        if not ray.wait([self._hearing], timeout=timeout_s)[0]:
            return []
        hearing, self._hearing = self._hearing, None
        heard: list[FromShard] = self._result(hearing)
        return heard

    def _result(self, reference: Any) -> Any:
        import ray

        try:
            return ray.get(reference, timeout=CALL_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ShardLost):
                raise ShardLost(f"{error.cause} (on {self._host})") from error
            raise
        except ray.exceptions.RayError as error:
            what = f"the Ray actor that carries a shard on {self._host} is gone"
            raise ShardLost(f"{what}: {_line(error)}") from error

    def close(self) -> None:
        """A shard ends with its actor, however that ends: to ask it first is only more orderly."""
        import ray

        if self.pid:
            ray.wait([self._actor.close.remote()], timeout=CLOSE_S)
        ray.kill(self._actor)


def _line(error: Exception) -> str:
    """Ray tells at length; why an actor could not even begin stands in the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]


def ray_links(node_ids: Sequence[str]) -> Links:
    """Shards on these nodes, spread over them; each takes one CPU. Ray must be initialised."""

    def make(shards: int) -> Sequence[Link]:
        import ray

        cpus = sum(_cpus(node) for node in _nodes() if node["NodeID"] in node_ids)
        if cpus < shards:
            raise ShardLost(
                f"{shards} shards need a CPU each, and the nodes meant for them have {cpus}: "
                "fewer shards, or more nodes"
            )
        remote: Any = ray.remote  # typed for decorators alone
        carrier = remote(
            num_cpus=1,
            max_restarts=0,
            concurrency_groups=_GROUPS,
            label_selector={"ray.io/node-id": f"in({','.join(node_ids)})"},
            scheduling_strategy="SPREAD",
        )(Relay)
        links = [RayLink(carrier.remote()) for _ in range(shards)]
        try:
            _await_all(links)
        except ShardLost:
            for link in links:
                link.close()
            raise
        return links

    return make


def _await_all(links: Sequence[RayLink]) -> None:
    deadline = time.monotonic() + PLACE_S
    waiting = [link for link in links if not link.placed(max(deadline - time.monotonic(), 0))]
    if waiting:
        raise ShardLost(
            f"{len(waiting)} of {len(links)} shards found no free CPU on the nodes meant for them "
            f"within {PLACE_S:g} s: something else holds them"
        )


def links_apart() -> Links:
    """From an actor or task: on other nodes than its own."""
    import ray

    return ray_links(nodes_apart_from(ray.get_runtime_context().get_node_id()))


def nodes_apart_from(node_id: str) -> list[str]:
    """The other living nodes that have a CPU. Raises ShardLost if there is none.

    Where some have no GPU, only those: the others may have an engine of their own.
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

    every: Any = ray.nodes  # bare of types
    return [node for node in every() if node["Alive"]]
