"""Prepares every node of a cluster before the first trial, each once and all at the same time."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from serving.engines import Engine
from serving.errors import LaunchError
from serving.launch.prepared import prepare_node
from serving.topology import Model
from tuner.study.capacity import ClusterError
from tuner.study.joining.nodes import NODE

Say = Callable[[str], None]
Step = tuple[Literal["step", "done", "failed"], Any]
SAY_EVERY_S = 5.0
LOOK_S = 1.0


def prepare_nodes(
    engines: Sequence[Engine],
    model: Model,
    nodes: Sequence[Mapping[str, Any]],
    *,
    cpus: bool,
    say: Say,
) -> None:
    """Environments are installed and models fetched where a node lacks them; progress in one line now and then.

    Raises ClusterError with a line for each node that failed, and for nodes that have different commits.
    """
    import ray
    from ray.exceptions import RayError

    remote: Any = ray.remote  # typed for decorators alone
    task = remote(num_cpus=0, max_retries=0)(_steps)
    running: dict[Any, str] = {
        task.options(num_returns="streaming", label_selector={NODE: node["NodeID"]}).remote(
            list(engines), model, cpus
        ): node["NodeManagerHostname"]
        for node in nodes
    }
    commits: dict[str, dict[str, str]] = {}
    failed: dict[str, str] = {}
    shown = _Shown(len(running), say)
    while running:
        ready, _ = ray.wait([*running], num_returns=1, timeout=LOOK_S, fetch_local=False)
        for each in ready:
            stream: Any = each
            host = running[stream]
            try:
                kind, what = ray.get(next(stream))
            except StopIteration:
                running.pop(stream)
                if host not in commits:
                    failed.setdefault(host, "its worker ended")
                continue
            except RayError as error:
                running.pop(stream)
                failed[host] = next(iter(str(error).strip().splitlines()), type(error).__name__)
                continue
            if kind == "step":
                shown.step(host, what, len(nodes) - len(running))
            elif kind == "done":
                commits[host] = what
            else:
                failed[host] = what
    if lines := [f"node {host}: {line}" for host, line in failed.items()]:
        raise ClusterError("\n".join(lines))
    _same_everywhere(commits)


def _same_everywhere(commits: Mapping[str, Mapping[str, str]]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for host, found in commits.items():
        for name, commit in found.items():
            other, theirs = first.setdefault(name, (host, commit))
            if theirs != commit:
                raise ClusterError(
                    f"{name} is at {theirs[:12]} on node {other}, and at {commit[:12]} on node {host}: the "
                    "hub's branch moved meanwhile; start again, or name a commit in model.revision"
                )


class _Shown:
    """One line now and then, of all nodes."""

    def __init__(self, count: int, say: Say) -> None:
        self._count, self._say, self._said_s = count, say, 0.0

    def step(self, host: str, what: str, ready: int) -> None:
        now = time.monotonic()
        if now - self._said_s >= SAY_EVERY_S:
            self._said_s = now
            self._say(f"preparing nodes: {ready} of {self._count} ready; {host}: {what}")


def _steps(engines: Sequence[Engine], model: Model, cpus: bool) -> Iterator[Step]:
    """On a node: what is done there, as it goes."""
    steps: queue.SimpleQueue[Step] = queue.SimpleQueue()

    def work() -> None:
        try:
            commits = prepare_node(
                engines, model, cpus=cpus, say=lambda line: steps.put(("step", line))
            )
        except LaunchError as error:
            steps.put(("failed", error.evidence))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            steps.put(("failed", f"{where}{error.strerror or error}"))
        else:
            steps.put(("done", commits))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while True:
        try:
            kind, what = steps.get(timeout=LOOK_S)
        except queue.Empty:
            if not worker.is_alive() and steps.empty():
                return
            continue
        yield kind, what
        if kind != "step":
            return
