"""An engine in a step of a Slurm job, by a fake Slurm: it ends with its owner, however that ends."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.engines import LlamaCpp, Nim
from serving.errors import EngineExited, LaunchError
from serving.launch import launched, plan_command, shell_command
from serving.launch.contained import check_container
from serving.process.containers import owned, steps
from serving.process.containers.config import Container
from serving.process.containers.facts import runtime_facts
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, wait_for
from tests.serving.launch.contained import (
    cid_files,
    spec_of,
    started_elsewhere,
    stub,
    supervisors,
    until,
)
from tests.serving.launch.test_launched import check_until_it_raises, model
from tests.serving.process.containers.fixtures import SOURCE, FakeRuntime, runtime

__all__ = ["model", "runtime"]
pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]
COMMAND = """#!{python} -S
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from fake_slurm import main
here = Path(__file__)
sys.exit(main(here.name, here.parents[1], sys.argv[1:]))
"""


@pytest.fixture
def slurm(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    for name in ("srun", "squeue", "scancel"):
        path = runtime.folder / "bin" / name
        path.write_text(COMMAND.format(python=sys.executable, folder=str(SOURCE.parent)))
        path.chmod(0o755)
    (runtime.folder / "image.sqsh").touch()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURMD_NODENAME", "node05")
    monkeypatch.setenv("SITE_TOKEN", "s3cret-token")
    return runtime


def in_step(slurm: FakeRuntime, pids: Path, mode: str = "ok", **changes: object) -> LlamaCpp:
    settings = {"runtime": "pyxis", "image": str(slurm.folder / "image.sqsh"), **changes}
    container = Container.model_validate(settings)
    return stub(pids, mode).model_copy(
        update={"container": container, "env_passthrough": ("SITE_TOKEN",)}
    )


def test_it_is_a_step_beside_the_others_on_this_node(
    slurm: FakeRuntime,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "s3cret-other")
    with launched(spec_of(in_step(slurm, pids), model, tmp_path)) as running:
        running.check()
        assert running.endpoint.pid in wait_for(pids, 2)  # no child of srun
        environ = Path(f"/proc/{running.endpoint.pid}/environ").read_text().split("\0")
        (step,) = slurm.containers().values()
        shown = shell_command(running.endpoint)
        assert len(cid_files(tmp_path)) == 1
    given = step["given"]
    assert (given["nodelist"], given["nodes"], given["ntasks"]) == ("node05", "1", "1")
    assert {"overlap", "no-container-entrypoint", "container-writable"} <= {*given}
    assert given["container-mounts"].startswith(f"{model.source}:{model.source}:ro")
    assert given["container-env"] == given["export"]
    assert {"SITE_TOKEN", "WATTFRONT_ENGINE"} <= {*given["export"].split(",")}
    assert str(STUB) in step["argv"]
    names = {each.partition("=")[0] for each in environ}
    assert "SITE_TOKEN=s3cret-token" in environ
    assert not names & {"OTHER_TOKEN", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"}  # see the command
    assert shown.count("srun --overlap") == 1
    assert "--job-name" not in shown
    assert "WATTFRONT_ENGINE" not in shown
    assert "s3cret" not in slurm.everything() + shown + (tmp_path / "log").read_text()
    assert slurm.containers() == {}
    assert leftovers(0) == []
    assert cid_files(tmp_path) == []


@pytest.mark.parametrize(
    "killed",
    [
        "owner",
        pytest.param("owner and supervisor", marks=pytest.mark.thorough),
        "owner and srun",
    ],
)
def test_a_killed_owner_leaves_no_step(
    killed: str,
    slurm: FakeRuntime,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    with started_elsewhere(in_step(slurm, pids), model, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        _, supervisor = supervisors(tmp_path / "log")
        owner.send_signal(signal.SIGSTOP)  # so that it does not see the others die first
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        if killed == "owner and supervisor":
            os.kill(supervisor, signal.SIGKILL)
        if killed == "owner and srun":
            os.kill(int(children[0]), signal.SIGKILL)
        owner.kill()
        owner.wait()
    until(lambda: supervisors(tmp_path / "log") == [])
    assert marks(slurm) == []
    assert leftovers(20) == []
    assert cid_files(tmp_path) == []


def marks(slurm: FakeRuntime) -> list[str]:
    """Of the steps that run."""
    homes = slurm.folder / "containers"
    running = [
        each["labels"]["name"]
        for key, each in slurm.containers().items()
        if not (homes / key / "exit").exists()
    ]
    return [name.removeprefix("wattfront-") for name in running]


def test_the_step_of_a_dead_owner_is_ended_at_the_next_start(
    slurm: FakeRuntime, model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with started_elsewhere(in_step(slurm, pids), model, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        assert owned.sweep() == []  # it lives
        for pid in (*supervisors(tmp_path / "log"), owner.pid):  # the guard first
            os.kill(pid, signal.SIGKILL)
        owner.wait()
    (mark,) = marks(slurm)
    assert steps.marked(mark)
    assert owned.sweep() == [steps.step_name(mark)]
    assert marks(slurm) == []
    assert leftovers(20) == []


def test_a_slurm_that_does_not_answer_is_not_waited_for(
    slurm: FakeRuntime,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    with launched(spec_of(in_step(slurm, pids), model, tmp_path)) as running:
        slurm.mode("lost")
        _, supervisor = supervisors(tmp_path / "log")
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        with pytest.raises(EngineExited, match="killed by signal 9"):
            check_until_it_raises(running)
    assert leftovers(0) == []
    assert cid_files(tmp_path) == []


def test_what_can_not_start_says_so(
    slurm: FakeRuntime, model: Model, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = in_step(slurm, pids, volumes=(f"{tmp_path}:/a,b",))
    with pytest.raises(LaunchError, match="/a,b: it has a comma"):
        launched(spec_of(odd, model, tmp_path)).__enter__()
    image = Container(runtime="pyxis", image="nvcr.io/nim/x:1")
    with pytest.raises(LaunchError, match=r"engine\.nim\.executable"):
        plan_command(Nim(container=image), model, Topology())
    monkeypatch.delenv("SLURMD_NODENAME")
    with pytest.raises(LaunchError, match="in no Slurm job"):
        check_container(in_step(slurm, pids))


def test_the_doctor_sees_pyxis(slurm: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(slurm.folder / "bin"))
    found = {fact.name: fact for fact in runtime_facts(["site/other:1"], gpus=False)}
    assert found["pyxis"].usable
    assert found["pyxis"].found.startswith("pyxis 24.05.4; no nvidia-container-cli")
    (slurm.folder / "bin" / "srun").write_text("#!/bin/sh\necho plain Slurm\n")
    assert "pyxis" not in {fact.name for fact in runtime_facts([], gpus=False)}
