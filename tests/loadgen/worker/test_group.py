"""Several worker processes as one load."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadgen
from loadgen import Closed, Constant, Workload
from loadgen.errors import EndpointUnreachable, ShardLost
from loadgen.worker.group import WorkerGroup, forked_links, local_links, measured_offset
from loadgen.worker.link import Link, LocalLink
from tests.loadgen.fake_server import Behaviour, FakeServer, fake_server

pytestmark = pytest.mark.process


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "test",
        "input_tokens": 5,
        "output_tokens": 4,
        "arrival": Closed(concurrency=(4,)),
        "warmup_s": 0.05,
        "level_s": 0.3,
        "level_max_s": 2.0,
        "prompt_salt": 7,
    }
    return Workload(**base | changes)


def prompts(server: FakeServer) -> set[tuple[int, ...]]:
    return {tuple(served.body["prompt"]) for served in server.served}


def test_several_workers_send_the_requests_of_one() -> None:
    sent = []
    arrival = Constant(rate_per_s=(100,))
    for shards in (1, 2, 3):
        with fake_server() as server:
            one = workload(arrival=arrival, max_requests=30, shards=shards)
            report = loadgen.run(server.url, "fake", one)
            sent.append(prompts(server))
        records = report.levels[0].records
        assert len(records) == 30
        assert sorted(records.slot.tolist()) == list(range(30))
        due_s = np.sort(records.due_ns - records.due_ns.min()) / 1e9
        assert due_s == pytest.approx(np.arange(30) / 100, abs=1e-6)
    assert sent[0] == sent[1] == sent[2]


def test_users_are_divided_among_workers_and_all_start() -> None:
    with fake_server(Behaviour(ttft_s=0.01)) as server:
        report = loadgen.run(server.url, "fake", workload(shards=2))
        assert server.most_in_flight == 4
        assert server.connections == 4
    (level,) = report.levels
    assert set(level.records.slot.tolist()) == {0, 1, 2, 3}
    assert level.client.shards == 2
    assert level.client.clock_uncertainty_ns == 0  # one machine has one clock


def test_max_requests_is_exact_for_any_number_of_workers() -> None:
    for shards in (1, 3):
        with fake_server() as server:
            one = workload(max_requests=25, level_max_s=30, shards=shards)
            report = loadgen.run(server.url, "fake", one)
            assert len(server.served) == 25
        assert report.levels[0].records.completed.sum() == 25


def test_forked_workers() -> None:
    with fake_server() as server:
        code = (
            "import loadgen, sys; from loadgen.worker.group import forked_links\n"
            f"w = loadgen.Workload.model_validate_json({workload(shards=2).model_dump_json()!r})\n"
            f"r = loadgen.run({server.url!r}, 'fake', w, links=forked_links)\n"
            "assert r.levels[0].records.completed.any(); assert r.levels[0].client.shards == 2"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_killed_worker_is_an_error_and_the_others_end() -> None:
    links: list[LocalLink] = []

    def made(workers: int) -> Sequence[Link]:
        links.extend(link for link in local_links(workers) if isinstance(link, LocalLink))
        threading.Timer(0.8, os.kill, (links[0].pid, signal.SIGKILL)).start()
        return links

    with fake_server() as server, pytest.raises(ShardLost, match="exit -9"):
        loadgen.run(server.url, "fake", workload(level_s=20, level_max_s=20, shards=2), links=made)
    for link in links:
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)


@pytest.mark.parametrize("kind", ["local_links", "forked_links"])
def test_workers_do_not_outlive_a_killed_owner(kind: str) -> None:
    code = (
        f"from loadgen.worker.group import {kind}; import time\n"
        f"print(*[link.pid for link in {kind}(3)], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 3
        owner.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_an_error_of_one_worker_is_that_of_the_load() -> None:
    with pytest.raises(EndpointUnreachable, match="connection refused"):
        loadgen.run("http://127.0.0.1:1", "fake", workload(shards=2))


def test_the_offset_of_a_clock_is_measured_within_its_uncertainty() -> None:
    """A time namespace gives a process of this machine a clock that is ahead by a known amount."""
    ahead_s = 5000
    link = LocalLink.start(("unshare", "--time", "--fork", "--monotonic", str(ahead_s)))
    try:
        clock = measured_offset(link)
    finally:
        link.close()
    assert abs(clock.offset_ns - ahead_s * 10**9) <= clock.uncertainty_ns
    assert clock.uncertainty_ns < 100_000_000


def test_times_of_workers_on_other_clocks_are_converted() -> None:
    def made(_: int) -> Sequence[Link]:
        ahead = ("unshare", "--time", "--fork", "--monotonic", "777")
        return [LocalLink.start(), OnItsOwnClock(LocalLink.start(ahead))]

    begin_ns = time.perf_counter_ns()
    with fake_server(Behaviour(ttft_s=0.01)) as server:
        report = loadgen.run(server.url, "fake", workload(shards=2), links=made)
        truth = sorted(served.received_ns for served in server.served)
    (level,) = report.levels
    assert 0 < level.client.clock_uncertainty_ns < 100_000_000
    sent = np.sort(level.records.sent_ns)
    assert sent[0] > begin_ns
    late_ns = np.array(truth) - sent
    assert np.median(np.abs(late_ns)) < 100_000_000  # their clocks are 777 s apart


class OnItsOwnClock:
    """A local process in place of a remote one: the group may not assume one clock."""

    def __init__(self, link: LocalLink) -> None:
        self.send, self.receive, self.close = link.send, link.receive, link.close


def test_the_api_key_is_in_no_repr() -> None:
    from loadgen.worker.messages import Setup

    setup = Setup("http://a", "m", workload(), 100, "sk-secret", 0, 1)
    assert "sk-secret" not in repr(setup)
    assert WorkerGroup(()).links == ()
    assert forked_links(0) == []
