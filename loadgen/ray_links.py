"""Shards on other nodes of a Ray cluster: an actor starts the process there and passes messages on.

The actor only carries: the process that keeps the time is the same as on one machine, and has no
thread of Ray's in it. Four calls a second and shard, none a request.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from loadgen.clock import now_ns
from loadgen.errors import ShardLost
from loadgen.links import Link, LocalLink
from loadgen.messages import FromShard, Ping, Pong, ToShard
from loadgen.shards import Links

START_S = 120.0


class Relay:
    """Runs as an actor on the shard's node."""

    def __init__(self) -> None:
        self._link = LocalLink.start()

    def clock_ns(self) -> int:
        """All processes of a node have one monotonic clock."""
        return now_ns()

    def send(self, message: ToShard) -> None:
        self._link.send(message)

    def receive(self, timeout_s: float) -> list[FromShard]:
        return self._link.receive(timeout_s)

    def close(self) -> None:
        self._link.close()


class RayLink:
    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._inbox: list[FromShard] = []

    def send(self, message: ToShard) -> None:
        if isinstance(message, Ping):
            self._inbox.append(Pong(message.sent_ns, self._call("clock_ns")))
        else:
            self._call("send", message)

    def receive(self, timeout_s: float) -> list[FromShard]:
        if self._inbox:
            messages, self._inbox = self._inbox, []
            return messages
        heard: list[FromShard] = self._call("receive", timeout_s)
        return heard

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=START_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ShardLost):
                raise ShardLost(str(error.cause)) from error
            raise
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            line = str(error).strip().splitlines()[0]
            raise ShardLost(f"the actor that carries a shard is gone: {line}") from error

    def close(self) -> None:
        import ray

        with contextlib.suppress(ShardLost):
            self._call("close")
        ray.kill(self._actor)


def ray_links(node_ids: Sequence[str]) -> Links:
    """Shards on these nodes, in turn; each takes one CPU there. Ray must be initialised."""

    def make(shards: int) -> Sequence[Link]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        carrier = ray.remote(num_cpus=1, max_restarts=0)(Relay)
        links: list[RayLink] = []
        for shard in range(shards):
            node = NodeAffinitySchedulingStrategy(node_ids[shard % len(node_ids)], soft=False)
            links.append(RayLink(carrier.options(scheduling_strategy=node).remote()))
        try:
            for link in links:
                link.send(Ping(now_ns()))
                link.receive(0)
        except ShardLost as error:
            for link in links:
                link.close()
            raise ShardLost(f"a shard could not be placed: {error}") from error
        return links

    return make


def links_apart() -> Links:
    """From an actor or task: on other nodes than its own."""
    import ray

    return ray_links(nodes_apart_from(ray.get_runtime_context().get_node_id()))


def nodes_apart_from(node_id: str) -> list[str]:
    """The other living nodes that have a CPU. Raises ShardLost if there is none."""
    import ray

    nodes = [
        str(node["NodeID"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] != node_id and node["Resources"].get("CPU", 0) >= 1
    ]
    if not nodes:
        raise ShardLost("placement apart: the cluster has no other node with a CPU for the load")
    return nodes
