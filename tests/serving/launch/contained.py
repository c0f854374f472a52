"""What tests of engines in containers share: a stub engine in the image of a fake runtime, and its owners."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.engines import LlamaCpp
from serving.launch import LaunchSpec
from serving.process.containers import finish, images
from serving.process.containers.config import Container
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, stub_environ
from tests.serving.process.containers.fixtures import IMAGE

REPO = Path(__file__).parents[3]
CPU = Topology(cpus=1)


def stub(pids: Path, mode: str = "ok", **knobs: Any) -> LlamaCpp:
    container = Container(image=IMAGE, **knobs.pop("container", {}))
    settings = {"executable": str(STUB), "start_timeout_s": 60.0, "stop_grace_s": 0.5, **knobs}
    return LlamaCpp(container=container, env=stub_environ(pids, mode), **settings)


def spec_of(engine: LlamaCpp, model: Model, tmp_path: Path, mark: str = "") -> LaunchSpec:
    return LaunchSpec(engine, model, CPU, tmp_path / "log", mark=mark)


def cid_files(tmp_path: Path) -> list[Path]:
    return [*tmp_path.glob("wattfront-*/container-*.cid")]


OWNER = """
    import signal, sys, time
    from pathlib import Path
    from serving.launch import LaunchSpec, launched
    from serving.engines import LlamaCpp
    from serving.topology import Model, Topology
    engine, model, log, mark = sys.argv[1:]
    spec = LaunchSpec(
        LlamaCpp.model_validate_json(engine), Model.model_validate_json(model), Topology(cpus=1), Path(log),
        mark=mark,
    )
    with launched(spec) as running:
        print(running.endpoint.pid, flush=True)
        time.sleep(600)
"""


def started_elsewhere(engine: LlamaCpp, model: Model, tmp_path: Path) -> "subprocess.Popen[str]":
    words = [engine.model_dump_json(), model.model_dump_json(), str(tmp_path / "log"), ""]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), *words],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )


def supervisors(log: Path) -> list[int]:
    """The guard and the supervisor of an engine with this log, parents first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"supervise.py") for word in words) and str(log).encode() in words:
            found.append(int(entry.name))
    return sorted(found)


def until(found: Callable[[], bool], within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ANSWER_S", 0.7)
    monkeypatch.setattr(finish, "CALL_S", 0.7)
    monkeypatch.setattr(images.ask, "__kwdefaults__", {"within_s": 0.7})
    monkeypatch.setattr(finish.call, "__kwdefaults__", {"within_s": 0.7, "environ": None})
    monkeypatch.setattr(finish.finish, "__defaults__", (None, 1.5))
