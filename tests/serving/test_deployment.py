"""Engines under real Ray Serve: started, stopped, and gone after every kind of killing."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray import serve

from serving.deployment import SlotApplication
from serving.engines import LlamaCpp
from serving.errors import (
    DeployFailed,
    EngineExited,
    EngineRestarted,
    LaunchError,
    OutOfMemory,
    ServingError,
)
from serving.launch import LaunchSpec
from serving.probe import listening
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, runs, seen, stub_environ, wait_for
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.ray_cluster import connected

pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]
TOPOLOGY = Topology(cpus=1)


@ray.remote(num_cpus=0)
class Owner:
    """Stands for a slot of Ray Tune: the actor whose trial the engine serves."""

    def present(self) -> None: ...

    def pid(self) -> int:
        return os.getpid()


def calls_ended() -> None:
    """Ray ends a process of which a thread calls it after Ray's end; in a study, drivers make no such calls."""
    for thread in threading.enumerate():
        if thread.name == "within":
            thread.join()


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with connected(ClusterConfig(cpus=2, gpus=2)):
        yield
        calls_ended()


@pytest.fixture(scope="module")
def application(cluster: None) -> Iterator[SlotApplication]:
    """One for all tests, as for the trials of a slot."""
    with applied(Owner.remote()) as application:
        yield application


def applied(owner: Any) -> SlotApplication:
    return SlotApplication(ray.get_runtime_context().get_node_id(), TOPOLOGY, owner)


def spec(pids: Path, tmp_path: Path, mode: str = "ok") -> LaunchSpec:
    model = tmp_path / "model.gguf"
    model.touch()
    engine = LlamaCpp(
        executable=str(STUB),
        env=stub_environ(pids, mode),
        parallel=2,
        start_timeout_s=20,
        stop_grace_s=0.3,
    )
    described = Model(name="stub", source=str(model), context_tokens=64, vocabulary=1000)
    return LaunchSpec(engine, described, TOPOLOGY, tmp_path / "engine.log")


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def test_a_trial_after_another_in_one_slot(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    generations = set()
    for _ in range(2):
        with application.engine(spec(pids, tmp_path)) as endpoint:
            application.confirm(endpoint)
            generations.add(endpoint.generation)
            assert listening(port_of(endpoint.base_url))
        assert leftovers(0) == []
        assert not listening(port_of(endpoint.base_url))
    assert len(generations) == 2


def test_a_slot_reports_its_gpus_before_an_engine_runs(application: SlotApplication) -> None:
    node = ray.get_runtime_context().get_node_id()
    with SlotApplication(node, Topology(tensor_parallel=2), Owner.remote(), ("0", "1")) as pair:
        assert pair.devices() == ("0", "1")
    assert application.devices() == ()
    with (
        SlotApplication(node, Topology(tensor_parallel=2), Owner.remote(), ("0",)) as few,
        pytest.raises(LaunchError, match="needs 2 GPUs, but Ray gave its slot 1"),
    ):
        few.devices()


@pytest.mark.parametrize(("mode", "failure"), [("crash", EngineExited), ("oom", OutOfMemory)])
def test_a_failed_start_is_reported_with_its_reason(
    application: SlotApplication,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
    mode: str,
    failure: type[ServingError],
) -> None:
    with (
        pytest.raises(failure, match="failed to") as caught,
        application.engine(spec(pids, tmp_path, mode)),
    ):
        pass
    assert type(caught.value) is failure
    assert leftovers(10) == []


def test_an_engine_killed_under_load_is_noticed(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with application.engine(spec(pids, tmp_path)) as endpoint:
        os.kill(endpoint.pid, signal.SIGKILL)
        while runs(endpoint.pid):
            time.sleep(0.01)
        with pytest.raises(EngineExited, match="signal 9"):
            application.confirm(endpoint)
    assert leftovers(10) == []


def test_a_replica_killed_and_restarted_by_serve_is_not_measured(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with application.engine(spec(pids, tmp_path)) as endpoint:
        wait_for(pids, 2)
        os.kill(replica_of(endpoint.pid), signal.SIGKILL)
        assert leftovers(15) == []
        with pytest.raises(EngineRestarted):
            application.confirm(endpoint)


@pytest.mark.parametrize("how", ["kill -9", "ray.kill"])
def test_engine_and_application_end_with_a_killed_owner(
    pids: Path, leftovers: Leftovers, tmp_path: Path, how: str
) -> None:
    owner = Owner.remote()
    application = applied(owner)
    with application.engine(spec(pids, tmp_path)) as endpoint:
        wait_for(pids, 2)
        (device,) = endpoint.devices
        # Other studies of this machine, and other tests, may hold all cores.
        assert re.fullmatch(r"cpu:\d+|1 of \d+ cores, not pinned", device)
        replica = replica_of(endpoint.pid)
        if how == "ray.kill":
            ray.kill(owner)
        else:
            os.kill(ray.get(owner.pid.remote()), signal.SIGKILL)
        assert leftovers(15) == []
        assert not listening(port_of(endpoint.base_url))
        gone_within(15, application.name)
        ends_within(15, replica)


def test_a_start_ends_with_a_killed_owner(pids: Path, leftovers: Leftovers, tmp_path: Path) -> None:
    owner = Owner.remote()
    application = applied(owner)

    def kill() -> None:
        wait_for(pids, 2)
        ray.kill(owner)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        with (
            pytest.raises(EngineRestarted),
            application.engine(spec(pids, tmp_path, "hang")),
        ):
            pass
        killed.result()
    assert leftovers(15) == []
    gone_within(15, application.name)


def test_a_deployment_that_never_answers_is_a_failure(
    pids: Path, leftovers: Leftovers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.deployment.application.DEPLOY_TIMEOUT_S", 2.0)
    monkeypatch.setattr("serving.deployment.application.DELETE_TIMEOUT_S", 2.0)
    owner = Owner.remote()
    application, controller = applied(owner), process_named("ray::ServeController")
    controller.suspend()
    try:
        with (
            pytest.raises(DeployFailed, match="no answer within 2 s"),
            application.engine(spec(pids, tmp_path)),
        ):
            pass
    finally:
        controller.resume()
    calls_ended()  # Serve may get the deployment after the deletion
    ray.kill(owner)
    assert leftovers(0) == []
    gone_within(60, application.name)


def test_a_replica_that_stands_still_is_a_failure_and_leaves_no_engine(
    pids: Path, leftovers: Leftovers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers neither whether its engine runs nor that it stopped it: the slot ends the engine itself."""
    monkeypatch.setattr("serving.deployment.application.CALL_TIMEOUT_S", 2.0)
    monkeypatch.setattr("serving.deployment.application.STOP_TIMEOUT_S", 2.0)
    application = applied(Owner.remote())

    def stop_replica(engine: int) -> None:
        wait_for(pids, 2)
        os.kill(replica_of(engine), signal.SIGSTOP)

    with application.engine(spec(pids, tmp_path)) as endpoint:
        stop_replica(endpoint.pid)
        with pytest.raises(EngineRestarted, match="did not answer"):
            application.confirm(endpoint)
    assert leftovers(0) == []
    gone_within(60, application.name)


def process_named(name: str) -> psutil.Process:
    (found,) = {
        each for each in psutil.Process().children(recursive=True) if name in each.cmdline()
    }
    return found


def gone_within(seconds: float, name: str) -> None:
    deadline = time.monotonic() + seconds
    while name in serve.status().applications:
        assert time.monotonic() < deadline, f"{name} is still in Serve"
        time.sleep(0.1)


def ends_within(seconds: float, pid: int) -> None:
    """Serve forgets a replica a moment before its process has ended."""
    deadline = time.monotonic() + seconds
    while runs(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.05)


def test_a_deleted_application_leaves_nothing(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with application.engine(spec(pids, tmp_path)) as endpoint:
        replica = replica_of(endpoint.pid)
        application.delete()
        assert leftovers(15) == []
        ends_within(15, replica)
    assert len(seen(pids)) == 2


def replica_of(engine: int) -> int:
    """The Serve replica that holds an engine: it reads the supervisor's end of the pipe. Found by /proc."""
    stat = Path(f"/proc/{engine}/stat").read_text()
    supervisor = int(stat[stat.rindex(")") + 2 :].split()[1])
    pipe = Path(f"/proc/{supervisor}/fd/0").readlink()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != supervisor:
            try:
                fds = [fd for fd in (entry / "fd").iterdir() if fd.readlink() == pipe]
                if any(fd.lstat().st_mode & 0o200 for fd in fds):  # open for writing
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("no process holds the pipe")
