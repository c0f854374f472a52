"""What the doctor says of the container runtimes of a machine."""

from pathlib import Path

import pytest

from serving.process.containers import finish, owned
from serving.process.containers.facts import RuntimeFact, runtime_facts
from tests.serving.process.containers.fixtures import IMAGE, FakeRuntime, runtime

__all__ = ["runtime"]


def facts(*images: str, gpus: bool = False) -> dict[str, RuntimeFact]:
    return {fact.name: fact for fact in runtime_facts(images, gpus=gpus)}


def on_path(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def alone(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """No other runtime is on PATH."""
    monkeypatch.setenv("PATH", str(runtime.folder / "bin"))
    return runtime


def test_a_machine_without_a_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = facts()["containers"]
    assert found == RuntimeFact(
        "containers",
        True,
        "none of docker, podman, apptainer, enroot on PATH, and no Slurm with pyxis",
    )
    assert not facts(IMAGE)["containers"].usable


@pytest.mark.process
def test_versions_gpus_and_images(alone: FakeRuntime) -> None:
    folder = alone.folder / "bin"
    on_path(
        folder, "podman", 'case "$1" in --version) echo podman version 4.3.1;; *) exit 1;; esac'
    )
    on_path(folder, "nvidia-ctk", "echo nvidia.com/gpu=0; echo nvidia.com/gpu=GPU-1")
    on_path(folder, "apptainer", "echo apptainer version 1.4.0")
    on_path(folder, "enroot", "echo 3.5.0")
    found = facts(IMAGE, "site/other:1", gpus=True)
    assert found["docker"].found == "docker 28.2.2; runtime nvidia, 2 CDI names"
    assert found["podman"].found == "podman 4.3.1; 2 CDI names"
    assert found["apptainer"].found == "apptainer 1.4.0; GPUs by --nv"
    assert not found["enroot"].usable
    assert "Toolkit" in found["enroot"].fix
    listed = [*runtime_facts([IMAGE, "site/other:1"], gpus=True)]
    assert (
        RuntimeFact(
            f"image {IMAGE}", True, f"docker has it: {IMAGE.partition(':')[0]}@sha256:{'1d' * 32}"
        )
        in listed
    )
    assert (
        RuntimeFact(
            "image site/other:1", False, "docker does not have it", "docker pull site/other:1"
        )
        in listed
    )


@pytest.mark.process
def test_a_daemon_that_does_not_answer(alone: FakeRuntime) -> None:
    alone.mode("down")
    found = facts(IMAGE)
    assert not found["docker"].usable
    assert "Cannot connect to the Docker daemon" in found["docker"].found
    assert "systemctl start docker" in found["docker"].fix
    assert f"image {IMAGE}" not in found  # it would say the same once more


@pytest.mark.process
def test_containers_of_dead_owners_are_ended_and_named(runtime: FakeRuntime) -> None:
    from tests.serving.launch.test_container_owners import docker_run

    labels = {finish.MARK_LABEL: "999999999-1.ab", finish.NODE_LABEL: owned.node()}
    client = docker_run(
        runtime, *(w for pair in labels.items() for w in ("--label", "=".join(pair)))
    )
    while not runtime.containers():
        assert client.poll() is None
    assert "ended those of dead owners" in facts()["containers left behind"].found
    assert runtime.containers() == {}
    client.wait(60)
