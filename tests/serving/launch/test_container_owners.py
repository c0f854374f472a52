"""A container ends with its owner, however that ends, and no other is touched. By a fake runtime."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import EngineExited, EngineLeft
from serving.launch import launched
from serving.process.containers import finish, owned
from serving.process.leftovers import new_mark
from serving.topology import Model
from tests.serving.launch.contained import (
    cid_files,
    impatient,
    spec_of,
    started_elsewhere,
    stub,
    supervisors,
    until,
)
from tests.serving.launch.test_launched import check_until_it_raises, model
from tests.serving.process.containers.fixtures import IMAGE, FakeRuntime, runtime

__all__ = ["impatient", "model", "runtime"]
pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]


@pytest.mark.parametrize(
    "killed", ["owner", "owner and supervisor", "owner, supervisor and client"]
)
def test_a_killed_owner_leaves_no_container(
    killed: str,
    runtime: FakeRuntime,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    with started_elsewhere(stub(pids), model, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        guard, supervisor = supervisors(tmp_path / "log")
        owner.send_signal(signal.SIGSTOP)  # so that none of these sees the others die first
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        if killed != "owner":
            os.kill(supervisor, signal.SIGKILL)
        if killed.endswith("client"):
            os.kill(int(children[0]), signal.SIGKILL) if Path(
                f"/proc/{children[0]}"
            ).exists() else None
        owner.kill()
        owner.wait()
    until(lambda: runtime.containers() == {} and supervisors(tmp_path / "log") == [])
    assert leftovers(20) == []
    assert cid_files(tmp_path) == []
    assert guard not in supervisors(tmp_path / "log")


def test_the_container_of_a_dead_owner_is_ended_at_the_next_start(
    runtime: FakeRuntime, model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with started_elsewhere(stub(pids), model, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        others = owned.sweep(["docker"])
        assert others == []  # it lives
        for pid in (
            *supervisors(tmp_path / "log"),
            owner.pid,
        ):  # the guard first: it ends what is left
            os.kill(pid, signal.SIGKILL)
        owner.wait()
    assert len(runtime.containers()) == 1
    assert len(owned.sweep()) == 1  # by its file, whichever engine starts next
    assert runtime.containers() == {}
    assert leftovers(20) == []


def docker_run(runtime: FakeRuntime, *words: str) -> "subprocess.Popen[bytes]":
    client = runtime.folder / "bin" / "docker"
    return subprocess.Popen([client, "run", *words, "--entrypoint", "sleep", IMAGE, "600"])


def test_only_labelled_containers_of_dead_owners_of_this_node_are_ended(
    runtime: FakeRuntime, tmp_path: Path
) -> None:
    dead = "999999999-1.0123456789abcdef"
    here, mine = owned.node(), new_mark()
    labels = {
        "no label": [],
        "alive": [f"{finish.MARK_LABEL}={mine}", f"{finish.NODE_LABEL}={here}"],
        "elsewhere": [f"{finish.MARK_LABEL}={dead}", f"{finish.NODE_LABEL}=another"],
        "not ours": [f"{finish.MARK_LABEL}=what is this", f"{finish.NODE_LABEL}={here}"],
        "dead": [f"{finish.MARK_LABEL}={dead}", f"{finish.NODE_LABEL}={here}"],
    }
    clients = [
        docker_run(runtime, *(word for each in given for word in ("--label", each)))
        for given in labels.values()
    ]
    until(lambda: len(runtime.containers()) == len(labels))
    assert len(owned.sweep(["docker"])) == 1
    left = [each["labels"].get(finish.MARK_LABEL) for each in runtime.containers().values()]
    assert sorted(map(str, left)) == sorted([str(None), mine, dead, "what is this"])
    for client in clients:
        client.kill()
        client.wait()


def test_a_client_that_is_killed_takes_its_container_with_it(
    runtime: FakeRuntime, model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with launched(spec_of(stub(pids), model, tmp_path)) as running:
        (supervisor,) = supervisors(tmp_path / "log")[1:]
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        with pytest.raises(EngineExited, match="killed by signal 9"):
            check_until_it_raises(running)
        assert runtime.containers() == {}
    assert leftovers(0) == []


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_hangs_at_the_end_is_reported_and_the_container_ended_later(
    runtime: FakeRuntime, tmp_path: Path
) -> None:
    client, mark = str(runtime.folder / "bin" / "docker"), new_mark()

    def hung() -> None:
        with owned.owned("docker", client, mark, tmp_path / "log") as container:
            words = [
                word for pair in container.labels.items() for word in ("--label", "=".join(pair))
            ]
            started.append(docker_run(runtime, "--cidfile", str(container.cidfile), *words))
            until(lambda: container.root() is not None)
            runtime.mode("hang")

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(EngineLeft, match=r"container \w+ may still run: docker does not answer"):
        hung()
    runtime.mode("")
    assert len(runtime.containers()) == 1
    owned.remove(mark)
    assert runtime.containers() == {}
    assert started[0].wait(60) == 137
    assert cid_files(tmp_path) == []
