"""A stub engine whose process tree resists signals, and ways to see what is left of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.nvml_fixtures import library, load, nvml, old_library, state

__all__ = ["library", "load", "nvml", "old_library", "state"]

STUB = Path(__file__).parents[1] / "e2e" / "stub_engine.py"


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """The folder in which every process of a stub engine leaves a file named by its pid."""
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


@pytest.fixture
def leftovers(pids: Path) -> Callable[[float], list[int]]:
    """`leftovers(within_s)`: what of the tree runs after that long; [] as soon as nothing does."""

    def find(within_s: float) -> list[int]:
        deadline = time.monotonic() + within_s
        while (left := [pid for pid in seen(pids) if runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    return find


def seen(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def wait_for(folder: Path, count: int, within_s: float = 30.0) -> list[int]:
    """Waits until that many processes have started."""
    deadline = time.monotonic() + within_s
    while len(found := seen(folder)) < count:
        assert time.monotonic() < deadline, f"only {found} of {count} processes showed up"
        time.sleep(0.02)
    return found


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def stub_environ(folder: Path, mode: str = "ok") -> dict[str, str]:
    return {"STUB_PIDS": str(folder), "STUB_MODE": mode, "PATH": os.environ["PATH"]}
