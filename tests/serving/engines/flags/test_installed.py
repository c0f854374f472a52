"""The version beside an executable: a virtual environment, a system Python, a long shebang, none."""

from pathlib import Path

import pytest

from serving.engines.flags.installed import installed_version


def environment(prefix: Path, name: str, version: str, packages: str = "site-packages") -> Path:
    info = prefix / "lib" / "python3.12" / packages / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (prefix / "bin").mkdir(exist_ok=True)
    return prefix / "bin"


def script(path: Path, head: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}\nimport sys\n")
    path.chmod(0o755)
    return str(path)


def test_of_a_virtual_environment(tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "venv", "vllm", "0.33.0+cu130")
    executable = script(bin_ / "vllm", f"#!{bin_}/python3.12")
    assert installed_version(executable, ("vllm",)) == "0.33.0+cu130"


def test_of_a_system_python_and_by_another_name(tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "usr", "tensorrt_llm", "1.2.1", "dist-packages")
    executable = script(bin_ / "trtllm-serve", "#!/usr/bin/env python3")
    assert installed_version(executable, ("tensorrt-llm",)) == "1.2.1"


@pytest.mark.parametrize(
    "head", ["#!{bin}/python", '#!/bin/sh\n\'\'\'exec\' "{bin}/python" "$0" "$@"']
)
def test_of_the_python_that_a_script_elsewhere_names(tmp_path: Path, head: str) -> None:
    bin_ = environment(tmp_path / "venv", "sglang", "0.5.23")
    executable = script(tmp_path / "wrappers" / "sglang", head.replace("{bin}", str(bin_)))
    assert installed_version(executable, ("sglang",)) == "0.5.23"


def test_the_executable_may_be_a_python_or_a_link(tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "venv", "sglang", "0.5.22")
    script(bin_ / "python3", "")
    link = tmp_path / "engine"
    link.symlink_to(bin_ / "python3")
    assert installed_version(str(bin_ / "python3"), ("sglang",)) == "0.5.22"
    assert installed_version(str(link), ("sglang",)) == "0.5.22"


def test_none_where_nothing_says(tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "venv", "other", "1")
    executable = script(bin_ / "vllm", f"#!{bin_}/python")
    assert installed_version(executable, ("vllm",)) is None
    assert installed_version(str(tmp_path / "missing"), ("vllm",)) is None
