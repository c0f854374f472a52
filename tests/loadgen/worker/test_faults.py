"""An exception in a worker, and a worker that hangs or dies: the level is an error, never a valid part."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import loadgen
from loadgen import Closed, Constant, LoadReport, Progress, Workload
from loadgen.control import level_controller
from loadgen.errors import BadTarget, BadWorkload, ShardFailed, ShardLost
from loadgen.http.connection import Connection
from loadgen.http.connection_pool import ConnectionPool
from loadgen.http.protocol import Target
from loadgen.http.request_encoder import RequestEncoder
from loadgen.prompts.synthetic import SyntheticSource
from loadgen.results.stats import summarize
from loadgen.worker import dispatcher, process, result
from loadgen.worker.dispatcher import Dispatcher
from loadgen.worker.group import forked_links, local_links
from loadgen.worker.process import LiveReporter
from loadgen.worker.request_queue import RequestQueue
from tests.loadgen.fake_server import Behaviour, fake_server

pytestmark = pytest.mark.process


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "test",
        "input_tokens": 4,
        "output_tokens": 4,
        "arrival": Constant(rate_per_s=(50,)),
        "warmup_s": 0.0,
        "level_s": 0.5,
        "level_max_s": 20.0,
        "request_timeout_s": 5.0,
    }
    return Workload(**base | changes)


def breaking(place: object, name: str, after: int) -> Callable[[pytest.MonkeyPatch], None]:
    """The function raises at its call number `after`."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        usual, calls = getattr(place, name), iter(range(1 << 30))

        def breaks(*args: Any, **more: Any) -> Any:
            if next(calls) == after:
                raise ValueError("broken\nfor a test")
            return usual(*args, **more)

        monkeypatch.setattr(place, name, breaks)

    return patch


PLACES = {
    "the dispatch timer": breaking(Dispatcher, "_issue_due", 5),
    "a request that can't be made": breaking(SyntheticSource, "first", 7),
    "a request that can't be encoded": breaking(RequestEncoder, "encode", 7),
    "the beat": breaking(LiveReporter, "__call__", 3),
    "the time-outs": breaking(Dispatcher, "time_out", 2),
    "data that arrives": breaking(Connection, "data_received", 9),
    "a connection that is made": breaking(Connection, "connection_made", 0),
    "a connection that is lost": breaking(Connection, "connection_lost", 0),
    "a response that ends": breaking(Dispatcher, "answered", 4),
    "a check of a response": breaking(dispatcher, "may_have_failed", 4),
    "the parser, after the level": breaking(result, "_record", 3),
    "the setup": breaking(process, "build", 0),
    "a connection that is opened": breaking(ConnectionPool, "_connect", 0),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_exception_anywhere_in_a_worker_is_the_error_of_the_level(
    place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    PLACES[place](monkeypatch)
    close = "announced" if "lost" in place else "no"
    with fake_server(Behaviour(close=close)) as server, pytest.raises(ShardFailed) as caught:
        loadgen.run(server.url, "fake", workload(), links=forked_links)
    line = str(caught.value)
    assert line.startswith("an exception in a process of the load generator: ValueError: broken (")
    assert line.count("\n") == 0
    assert "broken" not in capfd.readouterr().err


def test_levels_before_the_exception_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(Dispatcher, "run", 1)(monkeypatch)
    with fake_server() as server:
        load = workload(arrival=Closed(concurrency=(1, 2)), level_s=0.2)
        report = loadgen.run(server.url, "fake", load, links=forked_links)
    assert len(report.levels) == 1
    assert isinstance(report.failure, ShardFailed)


def test_requests_that_were_due_and_never_sent_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = RequestQueue.pop

    def losing(queue: RequestQueue, now_ns: int) -> Any:
        due = usual(queue, now_ns)
        return losing(queue, now_ns) if due is not None and due[1] % 5 == 3 else due

    monkeypatch.setattr(RequestQueue, "pop", losing)
    with fake_server() as server:
        report = loadgen.run(server.url, "fake", workload(), links=forked_links)
    (level,) = report.levels
    stats = summarize(level)
    missed = level.client.missed
    assert missed >= 4
    assert f"the client never sent {missed} requests that were due" in stats.invalid_because
    share = stats.metrics["client_sent_share"]
    assert share is not None
    assert share < 0.9


def interfered(with_pid: Callable[[int], None], shards: int = 1) -> LoadReport:
    """A load; once it is measured, something happens to its last worker."""
    links = local_links(shards)
    done: list[bool] = []

    def on_progress(now: Progress) -> None:
        if now.phase == "measure" and now.completed and not done:
            done.append(True)
            with_pid(links[-1].pid)  # type: ignore[attr-defined]

    with fake_server() as server:
        load = workload(shards=shards, level_s=15.0)
        return loadgen.run(server.url, "fake", load, links=lambda _: links, on_progress=on_progress)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_worker_that_hangs_is_an_error(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level_controller, "SILENT_S", 1.0)
    with pytest.raises(ShardLost, match="has sent nothing for"):
        interfered(lambda pid: os.kill(pid, signal.SIGSTOP), shards)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_worker_that_is_killed_is_an_error(shards: int) -> None:
    with pytest.raises(ShardLost, match=r"ended by itself \(exit -9\)"):
        interfered(lambda pid: os.kill(pid, signal.SIGKILL), shards)


# --- judged before the load


@pytest.mark.parametrize(
    "url", ["http://a..b:1", "http://127.0.0.1:1/a b", "http://127.0.0.1:1/é", f"http://{'x' * 70}"]
)
def test_a_url_that_can_not_be_sent_is_refused_before_the_load(url: str) -> None:
    with pytest.raises(BadTarget):
        Target.parse(url)


def test_a_model_that_can_not_be_encoded_is_refused_before_the_load() -> None:
    with fake_server() as server, pytest.raises(BadWorkload, match="surrogate pair"):
        loadgen.run(server.url, "half \ud83d", workload(), links=forked_links)
    assert not server.served
