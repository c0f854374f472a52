"""Real pynvml on a fake library, compiled once a run."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.serving.fake_nvml import State, compiled, shared_state


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where LD_LIBRARY_PATH leads a process of its own to."""
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a driver that does not know the newer functions."""
    return compiled(tmp_path_factory.mktemp("nvml-old"), "-DOLD_DRIVER")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    path = tmp_path / "nvml"
    monkeypatch.setenv("WATTFRONT_FAKE_NVML", str(path))
    return shared_state(path)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Puts a library under pynvml, as if the loader had found it; whoever loads last is asked."""

    def use(library: Path) -> None:
        monkeypatch.setattr(pynvml, "nvmlLib", _fresh(library))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    return use


@pytest.fixture
def nvml(state: State, library: Path, load: Callable[[Path], None]) -> State:
    load(library)
    return state


def _fresh(library: Path) -> Any:
    """A copy of its own: the library keeps the state that it mapped first."""
    copy = library.with_name(f"{len(list(library.parent.iterdir()))}.so")
    copy.write_bytes(library.read_bytes())
    return ctypes.CDLL(str(copy))
