"""The real podman, where it is installed: an image without contents, which sees the programs of the node."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engines import LlamaCpp
from serving.errors import ContainerFailed, EnvironmentBroken
from serving.launch import launched
from serving.topology import Model
from tests.serving.conftest import STUB, stub_environ
from tests.serving.launch.contained import spec_of, started_elsewhere, supervisors, until
from tests.serving.launch.test_launched import model

__all__ = ["model"]
IMAGE = "localhost/wattfront-empty:1"
pytestmark = [
    pytest.mark.process,
    pytest.mark.thorough,
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
]


def podman(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["podman", *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def run() -> Iterator[str]:
    """A folder whose path has less than the 50 characters that podman allows."""
    with tempfile.TemporaryDirectory(prefix="wf-") as folder:
        yield folder


@pytest.fixture
def store(tmp_path: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Images and containers of their own, of a podman that needs no more rights than this account has."""
    runtimes = [each for each in ("runc", "crun") if shutil.which(each)]
    config, storage = tmp_path / "containers.conf", tmp_path / "storage.conf"
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (
        f'default_ulimits = ["nofile={min(files, 1024)}:{min(files, 1024)}", "nproc=1024:1024"]'
    )
    chosen = f'runtime = "{runtimes[0]}"\n' if runtimes else ""
    engine = f'{chosen}cgroup_manager = "cgroupfs"\nevents_logger = "none"'
    config.write_text(f"[engine]\n{engine}\n[containers]\n{limits}\n")
    roots = f'graphroot = "{tmp_path / "store"}"\nrunroot = "{run}"'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{roots}\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(config))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    tar = tmp_path / "image.tar"
    with tarfile.open(tar, "w") as image:
        for folder in ("etc", "tmp", "proc", "sys", "dev", "usr", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            image.addfile(entry)
        for link in ("bin", "lib", "lib64"):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            image.addfile(entry)
    imported = podman("import", "--quiet", str(tar), IMAGE)
    assert imported.returncode == 0, imported.stderr
    yield tmp_path
    podman("rm", "--all", "--force")


def engine_in(pids: Path, **knobs: object) -> LlamaCpp:
    folders = {
        Path(STUB).parents[2],
        Path(os.path.realpath(shutil.which("python3") or "")).parents[1],
    }
    volumes = ["/usr:/usr:ro", f"{pids}:{pids}", *(f"{each}:{each}:ro" for each in folders)]
    container = {
        "runtime": "podman",
        "image": IMAGE,
        "volumes": volumes,
        "args": ["--tmpfs", "/root"],
    }
    settings = {"executable": str(STUB), "start_timeout_s": 120.0, "stop_grace_s": 1.0, **knobs}
    return LlamaCpp.model_validate(
        {"kind": "llamacpp", "container": container, "env": stub_environ(pids), **settings}
    )


def all_containers() -> list[str]:
    return podman("ps", "--all", "--quiet").stdout.split()


def inside(pids: Path) -> list[int]:
    """The processes of the container, by their pids on the node: in there they have others."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"STUB_PIDS={pids}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def test_an_engine_in_a_container_of_podman(store: Path, model: Model, pids: Path) -> None:
    with launched(spec_of(engine_in(pids), model, store)) as running:
        running.check()
        running.canary()
        (cid,) = all_containers()
        assert running.endpoint.image_digest.startswith("localhost/wattfront-empty@sha256:")
        (file,) = store.glob("wattfront-*/container-podman-*.cid")
        assert file.read_text().startswith(cid)
        assert running.endpoint.pid in inside(pids)
        environ = Path(f"/proc/{running.endpoint.pid}/environ").read_text()
        assert "CONTAINERS_CONF" not in environ
    assert inside(pids) == []
    assert all_containers() == []


def test_what_podman_says_of_a_start_that_failed(store: Path, model: Model, pids: Path) -> None:
    engine = engine_in(pids)
    assert engine.container is not None
    for changed, kind, line in (
        ({"executable": "no-such-engine"}, EnvironmentBroken, "No such file"),
        (
            _with(engine, image="localhost/no-such:1", pull="never"),
            ContainerFailed,
            "is not on this",
        ),
        (_with(engine, args=("--device", "nvidia.com/gpu=0")), ContainerFailed, "unresolvable CDI"),
    ):
        with (
            pytest.raises(kind, match=line),
            launched(spec_of(engine.model_copy(update=changed), model, store)),
        ):
            pass
    assert all_containers() == []


def _with(engine: LlamaCpp, **changes: object) -> dict[str, object]:
    assert engine.container is not None
    return {"container": engine.container.model_copy(update=changes)}


@pytest.mark.parametrize("killed", ["owner", "owner and supervisor"])
def test_a_killed_owner_leaves_no_container_of_podman(
    killed: str, store: Path, model: Model, pids: Path
) -> None:
    log = store / "log"
    with started_elsewhere(engine_in(pids), model, store) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        _, supervisor = supervisors(log)
        assert len(all_containers()) == 1
        owner.send_signal(signal.SIGSTOP)  # so that it does not see the other die first
        if killed != "owner":
            os.kill(supervisor, signal.SIGKILL)
        owner.kill()
        owner.wait()
    until(lambda: all_containers() == [] and supervisors(log) == [])
    assert inside(pids) == []
