"""A Ray cluster of hosts with addresses of their own, started as anybody starts one."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.hosts import REPO, Host, ray_command, unavailable
from tuner.results.ledger import Finished, results

STUB = REPO / "tests" / "e2e" / "stub_engine.py"
HEAD = "10.77.0.1:6379"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(REPO)}
START_S = 300.0


@pytest.fixture(autouse=True, scope="session")
def _possible() -> None:
    if why := unavailable():
        pytest.skip(why)


def start_head(host: Host, *arguments: str, **env: str) -> None:
    """`ray start --head`."""
    words = ["--head", "--port=6379", f"--temp-dir={host.own}/ray", "--include-dashboard=false"]
    _ray_start([(host, [*words, *arguments])], env)


def start_workers(*hosts: Host, gpus: int = 2, **env: str) -> None:
    """`ray start --address` on each, all at a time."""
    words = [f"--address={HEAD}", f"--num-gpus={gpus}", "--num-cpus=2"]
    _ray_start([(host, words) for host in hosts], env)


def _ray_start(each: Sequence[tuple[Host, list[str]]], env: dict[str, str]) -> None:
    started = [
        host.start(
            ray_command("start", f"--node-ip-address={host.address}", *words),
            env={**QUIET, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for host, words in each
    ]
    assert [process.wait(timeout=START_S) for process in started] == [0] * len(started)


class Studies:
    """Runs `wattfront` on a host, in a folder that all hosts see."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder, self.host = folder, host
        (folder / "model.gguf").touch()
        (folder / "pids").mkdir()

    def arguments(self, *points: str) -> list[str]:
        """A stub on emulated GPUs, on the rig's cluster; one trial for each point."""
        engine = "engine.llamacpp"
        return [
            "tune",
            "experiment=smoke",
            f"{engine}.executable={STUB}",
            f"+{engine}.env={{STUB_PIDS: {self.folder / 'pids'}, STUB_MODE: ok}}",
            f"{engine}.start_timeout_s=90",
            f"{engine}.stop_grace_s=0.5",
            f"model.source={self.folder / 'model.gguf'}",
            "tracking=none",
            "hardware=h200",
            "topology=tp1",
            "cluster=existing",
            f"cluster.address={HEAD}",
            "search=list",
            "space=none",
            "search.default_first=false",
            f"search.points=[{', '.join(points)}]",
            f"search.trials={len(points)}",
        ]

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        return self.host.start(
            [sys.executable, "-m", "tuner", *arguments],
            cwd=self.folder,
            env={**QUIET, "COLUMNS": "200", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, timeout_s: float = 240, **env: str) -> tuple[int, str]:
        with self.start(*arguments, **env) as process:
            output, _ = process.communicate(timeout=timeout_s)
        return process.returncode, output

    def study(self) -> Path:
        """The folder of the last one."""
        return max(self.folder.glob("studies/*"), key=lambda path: path.stat().st_mtime)

    def results(self) -> list[Finished]:
        return results(self.study())


@contextmanager
def until(process: "subprocess.Popen[str]", text: str) -> Iterator[list[str]]:
    """Reads the output up to a line with this text; the block runs then. Yields the lines read."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    else:
        raise AssertionError(f"never said {text!r}:\n{''.join(lines)}")
    yield lines


def on_host(host: Host, code: str, *arguments: str, **env: str) -> str:
    """Runs Python on a host, as a user of Ray."""
    return host.run([sys.executable, "-c", code, *arguments], env={**QUIET, **env})
