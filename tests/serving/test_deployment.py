"""Engines under real Ray Serve: stood up, torn down, and gone after every kind of killing."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from serving.deployment import Order, SlotApplication
from serving.engines import LlamaCpp
from serving.errors import EngineExited, EngineRestarted, OutOfMemory, ServingError
from serving.probe import listening
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, runs, seen, stub_environ, wait_for
from tuner.cluster import ClusterConfig, connected

Leftovers = Callable[[float], list[int]]
TOPOLOGY = Topology(cpus=1)


@ray.remote(num_cpus=0)
class Owner:
    """Stands for a slot of Ray Tune: the actor whose trial the engine serves."""

    def present(self) -> None: ...

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with connected(ClusterConfig(cpus=2, gpus=0)):
        yield


@pytest.fixture
def application() -> Iterator[SlotApplication]:
    owner = Owner.remote()
    with SlotApplication(ray.get_runtime_context().get_node_id(), TOPOLOGY, owner) as application:
        application.owner = owner  # type: ignore[attr-defined]
        yield application


def order(pids: Path, tmp_path: Path, mode: str = "ok") -> Order:
    model = tmp_path / "model.gguf"
    model.touch()
    engine = LlamaCpp(
        executable=str(STUB), env=stub_environ(pids, mode), parallel=2, start_timeout_s=20
    )
    described = Model(name="stub", source=str(model), context_tokens=64, vocabulary=1000)
    return Order(engine, described, TOPOLOGY, tmp_path / "engine.log")


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def test_a_trial_after_another_in_one_slot(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    generations = set()
    for _ in range(2):
        with application.engine(order(pids, tmp_path)) as endpoint:
            application.confirm(endpoint)
            generations.add(endpoint.generation)
            assert listening(port_of(endpoint.base_url))
        assert leftovers(0) == []
        assert not listening(port_of(endpoint.base_url))
    assert len(generations) == 2


@pytest.mark.parametrize(("mode", "failure"), [("crash", EngineExited), ("oom", OutOfMemory)])
def test_a_failed_start_is_told_with_its_reason(
    application: SlotApplication,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
    mode: str,
    failure: type[ServingError],
) -> None:
    with (
        pytest.raises(failure, match="failed to") as caught,
        application.engine(order(pids, tmp_path, mode)),
    ):
        pass
    assert type(caught.value) is failure
    assert leftovers(10) == []


def test_an_engine_killed_under_load_is_noticed(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with application.engine(order(pids, tmp_path)) as endpoint:
        os.kill(endpoint.pid, signal.SIGKILL)
        with pytest.raises(EngineExited, match="signal 9"):
            application.confirm(endpoint)
    assert leftovers(10) == []


def test_a_replica_killed_and_restarted_by_serve_is_not_measured(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with application.engine(order(pids, tmp_path)) as endpoint:
        wait_for(pids, 2)
        os.kill(replica_of(endpoint.pid), signal.SIGKILL)
        assert leftovers(15) == []
        with pytest.raises(EngineRestarted):
            application.confirm(endpoint)


@pytest.mark.parametrize("how", ["kill -9", "ray.kill"])
def test_an_owner_that_is_killed_takes_its_engine_along(
    application: SlotApplication, pids: Path, leftovers: Leftovers, tmp_path: Path, how: str
) -> None:
    owner = application.owner  # type: ignore[attr-defined]
    with application.engine(order(pids, tmp_path)) as endpoint:
        wait_for(pids, 2)
        if how == "ray.kill":
            ray.kill(owner)
        else:
            os.kill(ray.get(owner.pid.remote()), signal.SIGKILL)
        assert leftovers(15) == []
        assert not listening(port_of(endpoint.base_url))


def test_a_deleted_application_leaves_nothing(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    application = SlotApplication(ray.get_runtime_context().get_node_id(), TOPOLOGY, Owner.remote())
    with application.engine(order(pids, tmp_path)) as endpoint:
        replica = replica_of(endpoint.pid)
        application.delete()
        assert leftovers(15) == []
        assert not runs(replica)
    assert len(seen(pids)) == 2


def replica_of(engine: int) -> int:
    """The Serve replica that holds an engine: it reads the supervisor's end of the pipe. Found by /proc."""
    stat = Path(f"/proc/{engine}/stat").read_text()
    supervisor = int(stat[stat.rindex(")") + 2 :].split()[1])
    pipe = Path(f"/proc/{supervisor}/fd/0").readlink()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != supervisor:
            try:
                if any(fd.readlink() == pipe for fd in (entry / "fd").iterdir()):
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("no process holds the pipe")
