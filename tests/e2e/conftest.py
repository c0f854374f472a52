"""The command line as a user runs it: a process of its own, with a stub for the engine alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

STUB = Path(__file__).with_name("stub_engine.py")
REPO = Path(__file__).parents[2]
MARK = "WATTFRONT_TEST_RUN"


class Wattfront:
    """Runs `wattfront` in a folder of its own and knows what it left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pids = folder, folder / "pids"
        self.pids.mkdir()
        (folder / "model.gguf").touch()

    def stub(self, mode: str = "ok") -> list[str]:
        """Overrides: the stub instead of the engine, on one core of two, tracked nowhere."""
        engine = "engine.llamacpp"
        return [
            "experiment=smoke",
            f"{engine}.executable={STUB}",
            f"+{engine}.env={{STUB_PIDS: {self.pids}, STUB_MODE: {mode}}}",
            f"{engine}.start_timeout_s=20",
            f"{engine}.stop_grace_s=0.5",
            f"model.source={self.folder / 'model.gguf'}",
            "tracking=none",
            "topology=cpu",
            "topology.cpus=1",
            "cluster.cpus=1",
            "search.seed=3",
        ]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200", MARK: str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.start(*arguments) as process:
            output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def study(self) -> Path:
        (folder,) = [path.parent for path in self.folder.glob("studies/*/study.yaml")]
        return folder

    def lines(self) -> list[dict[str, Any]]:
        ledgers = self.folder.glob("studies/*/ledger.jsonl")  # a refused study leaves an empty one
        return [
            json.loads(line)
            for ledger in sorted(ledgers)
            for line in ledger.read_text().split("\n")[:-1]
        ]

    def wait_for(self, status: str, count: int, within_s: float = 120) -> None:
        deadline = time.monotonic() + within_s
        while sum(line["status"] == status for line in self.lines()) < count:
            assert time.monotonic() < deadline, f"never saw {count} × {status}"
            time.sleep(0.05)

    def wait_for_engine(self, within_s: float = 60) -> None:
        """Until a new tree of two engine processes runs."""
        deadline = time.monotonic() + within_s
        while len(self.engine_processes()) < 2:
            assert time.monotonic() < deadline, "no engine came up"
            time.sleep(0.02)

    def engine_processes(self) -> list[int]:
        return [int(path.name) for path in self.pids.iterdir() if _runs(int(path.name))]

    def leftovers(self, within_s: float = 20) -> list[str]:
        """Whatever was started by a run here, Ray's processes included, and still runs after that long."""
        deadline = time.monotonic() + within_s
        while True:
            left = [f"engine {pid}" for pid in self.engine_processes()]
            left += [f"{p.pid} {' '.join(p.info['cmdline'] or [])[:120]}" for p in self.marked()]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def marked(self) -> Iterator[psutil.Process]:
        """Every process inherits the environment of the driver that it came from."""
        mark = f"{MARK}={self.folder}".encode()
        for process in psutil.process_iter(["cmdline"]):
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            if mark in environ.split(b"\0") and _runs(process.pid):
                yield process


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def wattfront(tmp_path: Path) -> Iterator[Wattfront]:
    product = Wattfront(tmp_path)
    yield product
    for pid in product.engine_processes():
        os.kill(pid, signal.SIGKILL)
