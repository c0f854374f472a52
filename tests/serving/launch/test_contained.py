"""An engine in a container of a fake runtime is served and verified as any other; its deaths are told apart."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import probe
from serving.engines import Nim, Vllm
from serving.errors import (
    ContainerFailed,
    EngineExited,
    EnvironmentBroken,
    HostOutOfMemory,
    LaunchError,
    ServingError,
)
from serving.launch import LaunchSpec, launched, plan_command, shell_command
from serving.process.containers import finish
from serving.process.containers.config import Container
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, wait_for
from tests.serving.launch.contained import cid_files, impatient, spec_of, stub
from tests.serving.launch.test_launched import check_until_it_raises, model
from tests.serving.process.containers.fixtures import IMAGE, FakeRuntime, runtime

__all__ = ["impatient", "model", "runtime"]
pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]


def killed(spec: LaunchSpec) -> None:
    """An engine whose container is killed from outside."""
    with launched(spec) as running:
        os.kill(running.endpoint.pid, signal.SIGKILL)
        check_until_it_raises(running)


def test_it_answers_from_its_container_and_leaves_nothing(
    runtime: FakeRuntime, model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with launched(spec_of(stub(pids), model, tmp_path)) as running:
        endpoint = running.endpoint
        running.check()
        running.canary()
        assert probe.model_names(endpoint.base_url) == ["stub"]
        (container,) = runtime.containers().values()
        assert {*container["labels"]} == {finish.MARK_LABEL, finish.NODE_LABEL}
        # Its first process, not the client's: it is no child of ours.
        assert endpoint.pid in wait_for(pids, 2)
        assert endpoint.image_digest.endswith("@sha256:" + "1d" * 32)
        assert len(cid_files(tmp_path)) == 1
    assert runtime.containers() == {}
    assert len(runtime.removed()) == 1
    assert leftovers(0) == []
    assert cid_files(tmp_path) == []
    assert "listening" in (tmp_path / "log").read_text()


CHILD = """#!/bin/sh
# Starts what follows the image, as a child without a daemon; by the variables that this runtime would pass.
echo "$@" >> {calls}
while [ "$1" != {image} ]; do [ "$1" = --rc ] && cat "$2" >> {calls}; shift; done; shift
for each in $(env | grep ^APPTAINERENV_); do export "${{each#APPTAINERENV_}}"; done
exec "$@"
"""


@pytest.mark.parametrize("kind", ["apptainer", "enroot"])
def test_a_runtime_without_a_daemon_starts_an_ordinary_child(
    kind: str,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, calls, client = tmp_path / "image.sqsh", tmp_path / "calls", tmp_path / "bin" / kind
    image.touch()
    client.parent.mkdir()
    client.write_text(CHILD.format(calls=calls, image=image))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SITE_TOKEN", "s3cret-token")
    container = Container.model_validate({"runtime": kind, "image": str(image)})
    update = {"container": container, "env_passthrough": ("SITE_TOKEN",)}
    engine = stub(pids).model_copy(update=update)
    with launched(spec_of(engine, model, tmp_path)) as running:
        running.check()
        assert running.endpoint.pid in wait_for(pids, 2)
        environ = Path(f"/proc/{running.endpoint.pid}/environ").read_text().split("\0")
        shown = shell_command(running.endpoint)
    assert "SITE_TOKEN=s3cret-token" in environ
    said = calls.read_text()
    assert ('exec "$@"' in said) == (kind == "enroot")  # in place of the image's entrypoint
    assert f"{image} {STUB} --model {model.source}" in said
    assert f"{kind} {'exec --cleanenv' if kind == 'apptainer' else 'start --rw'}" in shown
    assert "s3cret" not in said + shown + (tmp_path / "log").read_text()
    assert leftovers(0) == []


def test_the_command_that_is_shown_has_names_and_no_marks(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    with launched(spec_of(stub(pids), model, tmp_path)) as running:
        shown = shell_command(running.endpoint)
    assert f"STUB_PIDS={pids} docker run --init --network host --ipc host " in shown
    assert f"--volume {model.source}:{model.source}:ro" in shown
    assert f"--entrypoint {STUB} {IMAGE} --model {model.source}" in shown
    assert "--label" not in shown
    assert "--cidfile" not in shown


def test_secrets_are_passed_by_name_alone(
    runtime: FakeRuntime,
    model: Model,
    pids: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SITE_TOKEN", "s3cret-token")
    monkeypatch.setenv("LLAMA_API_KEY", "s3cret-key")
    monkeypatch.setenv("OTHER_TOKEN", "s3cret-other")
    monkeypatch.setenv("PYTHONPATH", "/of/the/node")
    monkeypatch.setenv("NCCL_TOPO_FILE", "/of/the/node")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    engine = stub(pids, "confess", env_passthrough=("SITE_TOKEN", "LLAMA_API_KEY"))
    with launched(spec_of(engine, model, tmp_path)) as running:
        environ = Path(f"/proc/{running.endpoint.pid}/environ").read_text().split("\0")
        shown = shell_command(running.endpoint)
        files = runtime.everything() + "".join(path.read_text() for path in cid_files(tmp_path))
        everything = files.replace("my key is s3cret-key", "")  # the container prints it itself
    names = {line.partition("=")[0] for line in environ}
    assert {"SITE_TOKEN=s3cret-token", "LLAMA_API_KEY=s3cret-key", "NCCL_DEBUG=INFO"} <= {*environ}
    assert not names & {"OTHER_TOKEN", "PYTHONPATH", "NCCL_TOPO_FILE", "HOME"}
    assert "s3cret" not in everything + shown + (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("mode", "kind", "line"),
    [
        ("down", ContainerFailed, "Cannot connect to the Docker daemon"),
        ("denied", ContainerFailed, "permission denied while trying to connect"),
        ("nodriver", ContainerFailed, "could not select device driver"),
        ("conflict", ContainerFailed, "already in use"),
        ("full", ContainerFailed, "no space left on device"),
    ],
)
def test_what_the_runtime_says_belongs_to_the_node(
    mode: str,
    kind: type[ServingError],
    line: str,
    runtime: FakeRuntime,
    model: Model,
    pids: Path,
    tmp_path: Path,
) -> None:
    runtime.mode(mode)
    with pytest.raises(kind, match=line) as death, launched(spec_of(stub(pids), model, tmp_path)):
        pass
    assert death.value.domain == "node"
    assert death.value.remedy


def test_a_command_that_the_image_lacks(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    engine = stub(pids, executable="no-such-engine")
    with (
        pytest.raises(EnvironmentBroken, match="executable file not found") as death,
        launched(spec_of(engine, model, tmp_path)),
    ):
        pass
    assert (death.value.phase, death.value.domain) == ("start", "node")


def test_the_engines_own_death_stays_its_own(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    crashes = launched(spec_of(stub(pids, "crash"), model, tmp_path))
    with pytest.raises(EngineExited, match="failed to load model") as death, crashes:
        pass
    assert type(death.value) is EngineExited
    (tmp_path / "log").unlink()
    with pytest.raises(EngineExited, match="killed by signal 9") as death:
        killed(spec_of(stub(pids), model, tmp_path))
    assert type(death.value) is EngineExited


def test_a_container_of_another_user_holds_its_port_by_that_user(
    runtime: FakeRuntime,
    model: Model,
    pids: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sockets can't be read; who listens can."""
    monkeypatch.setattr(probe, "_sockets", lambda _: set())
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *mode: f"{path}"[-3:] != "/fd" and access(path, *mode)
    )
    with launched(spec_of(stub(pids), model, tmp_path)) as running:
        running.check()
        port = int(running.endpoint.base_url.rsplit(":", 1)[1])
        assert probe.listens_as(os.getuid(), port)
        assert not probe.listens_as(os.getuid() + 1, port)
    assert not probe.listens_as(os.getuid(), port)


def test_a_model_of_the_hub_brings_its_token_by_name_and_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cret-token")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("NGC_API_KEY", "s3cret-key")
    hub = Model(name="m", source="org/model", context_tokens=64, vocabulary=1000)
    image = Container(image=IMAGE)
    plan = plan_command(Vllm(container=image), hub, Topology(tensor_parallel=2))
    assert "--env HF_TOKEN" in plan
    assert f"--volume {tmp_path}/hub:{tmp_path}/hub " in plan
    assert not (tmp_path / "hub").exists()  # a plan makes nothing
    nim = plan_command(Nim(container=image), hub, Topology())
    assert "--env NGC_API_KEY" in nim
    assert nim.endswith(f" {IMAGE}")  # which starts its server by itself
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert f"{tmp_path}/hub:ro" in plan_command(Vllm(container=image), hub, Topology())
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "weights").touch()
    (folder / "model.safetensors").symlink_to("../blobs/weights")
    local = hub.model_copy(update={"source": str(folder)})
    plan = plan_command(Vllm(container=image), local, Topology())
    assert f"--volume {folder}:{folder}:ro --volume {tmp_path}/blobs:{tmp_path}/blobs:ro" in plan
    assert "HF_TOKEN" not in plan
    assert "s3cret" not in plan + nim


def test_a_container_killed_for_lack_of_memory(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    runtime.mode("oom")
    with pytest.raises(HostOutOfMemory, match="OOMKilled"):
        killed(spec_of(stub(pids), model, tmp_path))


@pytest.mark.usefixtures("impatient")
def test_a_daemon_that_hangs_ends_the_start_with_one_line(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    runtime.mode("hang")
    with (
        pytest.raises(
            ContainerFailed,
            match=r"^docker does not answer within 0\.7 s \(`docker image inspect`\)",
        ),
        launched(spec_of(stub(pids), model, tmp_path)),
    ):
        pass


def test_an_image_is_fetched_before_the_start_is_timed(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    other = "registry.example/engines/other:2"
    engine = stub(pids).model_copy(update={"container": Container(image=other)})
    with launched(spec_of(engine, model, tmp_path)):
        words = [call[0] for call in runtime.calls()]
    assert words.index("pull") < words.index("run")
    assert "Downloaded newer image" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("mode", "pull", "line"),
    [
        ("missing", "missing", "pull access denied for"),
        ("", "never", r"is not on this node \(docker, pull: never\)"),
        ("slow", "missing", r"did not fetch registry.example/other:1 within 0\.5 s"),
    ],
)
def test_an_image_that_can_not_be_had(
    mode: str, pull: str, line: str, runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path
) -> None:
    runtime.mode(mode)
    container = Container.model_validate(
        {
            "image": "registry.example/other:1",
            "pull": pull,
            "pull_timeout_s": 0.5 if mode == "slow" else 60,
        }
    )
    engine = stub(pids).model_copy(update={"container": container})
    with pytest.raises(ContainerFailed, match=line), launched(spec_of(engine, model, tmp_path)):
        pass
    assert "run" not in [call[0] for call in runtime.calls()]


def test_a_missing_runtime_or_volume_is_named(
    runtime: FakeRuntime, model: Model, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = stub(pids, container={"volumes": ("/no/such/folder:/data:ro",)})
    with (
        pytest.raises(
            LaunchError, match=r"llamacpp\.container\.volumes: there is no /no/such/folder"
        ),
        launched(spec_of(volume, model, tmp_path)),
    ):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(LaunchError, match=r"docker is not on PATH of this node \(engine\.llamacpp"),
        launched(spec_of(stub(pids), model, tmp_path)),
    ):
        pass
