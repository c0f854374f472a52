"""A load whose workers are Ray actors on other nodes, against the same load here."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

import loadgen
from loadgen import Constant, Progress
from loadgen.errors import ShardLost
from loadgen.worker import ray_link as ray_links
from loadgen.worker.group import Links
from loadgen.worker.link import Link
from loadgen.worker.ray_link import RayLink, links_apart, nodes_apart_from
from tests.loadgen.fake_server import Behaviour, FakeServer, fake_server
from tests.loadgen.worker.test_group import alive, prompts, workload
from tuner.study.local_cluster import ALONE, QUIET

pytestmark = pytest.mark.process

REPO = Path(__file__).parents[3]
NODE = {"node_ip_address": "127.0.0.1", "num_gpus": 0}


@pytest.fixture(scope="module")
def others() -> Iterator[list[Any]]:
    """Two nodes beside this one, with two CPUs and one. A short path: Ray puts sockets into it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="wf-", ignore_cleanup_errors=True) as folder,
    ):
        for key, value in {**ALONE, **QUIET, "RAY_TMPDIR": folder, "PYTHONPATH": str(REPO)}.items():
            patch.setenv(key, value)
        patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # as ALONE says
        head = {**NODE, "num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = [cluster.add_node(wait=False, **NODE, num_cpus=cpus) for cpus in (2, 1)]
            cluster.wait_for_nodes()
            ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
            yield nodes
        finally:
            ray.shutdown()
            cluster.shutdown()


class Kept:
    """Keeps the links, so that a test can reach their actors and processes."""

    def __init__(self, make: Links) -> None:
        self._make = make
        self.links: list[RayLink] = []

    def __call__(self, workers: int) -> Sequence[Link]:
        made = self._make(workers)
        self.links = [link for link in made if isinstance(link, RayLink)]
        return made

    def assert_gone(self) -> None:
        deadline = time.monotonic() + 10
        while any(alive(link.pid) for link in self.links) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [link.pid for link in self.links if alive(link.pid)]


@pytest.fixture
def apart(others: list[Any]) -> Iterator[Kept]:
    kept = Kept(links_apart())
    yield kept
    kept.assert_gone()


def truth_ns(server: FakeServer) -> "np.ndarray[Any, Any]":
    return np.sort([served.received_ns for served in server.served])


def test_three_workers_on_other_nodes_send_the_load_of_one_here(apart: Kept) -> None:
    ticks: list[float] = []

    def tick(_: Progress) -> None:
        ticks.append(time.monotonic())

    open_loop = workload(arrival=Constant(rate_per_s=(50,)), max_requests=60, level_max_s=20)
    with fake_server() as server:
        here = loadgen.run(server.url, "fake", open_loop)
        one = prompts(server)
    with fake_server() as server:
        three = open_loop.model_copy(update={"shards": 3})
        report = loadgen.run(server.url, "fake", three, links=apart, on_progress=tick)
        assert prompts(server) == one
        truth = truth_ns(server)
    (level,), (local,) = report.levels, here.levels
    assert len({link.pid for link in apart.links}) == 3
    records = level.records
    assert sorted(records.slot.tolist()) == list(range(60))
    due_s = np.sort(records.due_ns - records.due_ns.min()) / 1e9
    assert due_s == pytest.approx(np.arange(60) / 50, abs=1e-6), "all began at one instant"
    assert records.output_tokens.sum() == local.records.output_tokens.sum()
    assert records.events.sum() == len(records.event_ns) == local.records.events.sum()
    assert level.client.shards == 3
    # The nodes are of one machine, so whatever offset was measured is error, and within its bound.
    uncertainty_ns = level.client.clock_uncertainty_ns
    assert 0 < uncertainty_ns < 200_000_000
    sent = np.sort(records.sent_ns)
    assert (truth - sent > -2 * uncertainty_ns).all()
    assert np.median(truth - sent) < 2 * uncertainty_ns + 100_000_000
    assert len(ticks) > 4, "progress continues while no worker has a message"


def test_a_large_plan_and_its_records_arrive_whole(apart: Kept) -> None:
    """Each user sends until the load is over: thousands of rows, in one message per worker."""
    closed = workload(
        arrival={"kind": "closed", "concurrency": [30]}, level_s=1.0, shards=2, output_tokens=40
    )
    with fake_server(Behaviour(ttft_s=0.001, itl_s=0.0)) as server:
        report = loadgen.run(server.url, "fake", closed, links=apart)
        assert len(report.levels[0].records) == len(server.served)
    records = report.levels[0].records
    assert records.completed.sum() > 100
    assert (records.event_ns >= report.levels[0].records.due_ns.min()).all()


def long_load(server: FakeServer, links: Links, after: Callable[[], None]) -> str:
    """The error of a load of 30 s that is disturbed while it runs."""
    began = threading.Event()

    def disturb() -> None:
        if began.wait(60):
            after()

    def tick(progress: Progress) -> None:
        if progress.completed > 3:
            began.set()

    other = threading.Thread(target=disturb)
    other.start()
    long = workload(level_s=30, level_max_s=30, shards=2)
    with pytest.raises(ShardLost) as lost:
        loadgen.run(server.url, "fake", long, links=links, on_progress=tick)
    other.join()
    return str(lost.value)


def test_a_killed_actor_is_an_error(apart: Kept) -> None:
    with fake_server() as server:
        line = long_load(server, apart, lambda: ray.kill(apart.links[1]._actor))
    assert line.startswith("the Ray actor of a worker process on ")
    assert "\n" not in line


def test_a_killed_worker_is_an_error(apart: Kept) -> None:
    with fake_server() as server:
        line = long_load(server, apart, lambda: os.kill(apart.links[0].pid, signal.SIGKILL))
    assert line.startswith("a process of the load generator ended by itself (exit -9) (on ")


def test_too_few_cpus_are_an_error_at_once(
    others: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShardLost, match=r"4 shards need one CPU each, .* have 3: use fewer shards"):
        links_apart()(4)
    with pytest.raises(ShardLost, match=r"1 shards need one CPU each, .* have 0"):
        ray_links.ray_links(["0" * 56])(1)
    monkeypatch.setattr(ray_links, "PLACE_S", 2.0)
    held = ray.remote(num_cpus=1)(Idle).options(
        label_selector={"ray.io/node-id": others[1].node_id}
    )
    holder = held.remote()
    ray.get(holder.there.remote())
    with pytest.raises(ShardLost, match=r"of 3 shards found no free CPU .* within 2 s"):
        links_apart()(3)
    ray.kill(holder)


class Idle:
    def there(self) -> None: ...


def test_apart_is_on_other_nodes(others: list[Any]) -> None:
    own = ray.get_runtime_context().get_node_id()
    assert sorted(nodes_apart_from(own)) == sorted(node.node_id for node in others)
    assert own in nodes_apart_from(others[0].node_id)


def test_a_lost_node_is_an_error_and_its_workers_end(others: list[Any], apart: Kept) -> None:
    """The last test: the cluster is smaller after it."""
    with fake_server() as server:
        line = long_load(server, apart, lambda: others[0].kill_all_processes(check_alive=False))
    assert line.startswith("the Ray actor of a worker process on ")
    assert "\n" not in line
