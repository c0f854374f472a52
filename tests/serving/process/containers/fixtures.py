"""The fake runtime on PATH, with its daemon, for the length of a test."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_runtime.py")
IMAGE = "registry.example/engines/stub:1.2.3"


@dataclass(frozen=True)
class FakeRuntime:
    folder: Path

    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Id → configuration of those that are not removed."""
        homes = [home for home in (self.folder / "containers").iterdir() if home.name[0] != "."]
        return {home.name: json.loads((home / "config.json").read_text()) for home in homes}

    def removed(self) -> list[dict[str, Any]]:
        homes = (self.folder / "containers").glob(".[0-9a-f]*")
        return [json.loads((home / "config.json").read_text()) for home in homes]

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def everything(self) -> str:
        """The text of all files, the names of all files among it."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join(f"{path}: {path.read_text(errors='replace')}" for path in files)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntime]:
    folder = tmp_path / "runtime"
    (folder / "containers").mkdir(parents=True)
    (folder / "images").write_text(json.dumps({IMAGE: True}))
    client = folder / "bin" / "docker"
    client.parent.mkdir()
    # -S: the clients start faster without site-packages, which they do not need.
    client.write_text(f"#!{sys.executable} -S\n{SOURCE.read_text()}")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(
        "TMPDIR", str(tmp_path)
    )  # of the locks and files by which containers are found
    monkeypatch.setattr("tempfile.tempdir", None)
    daemon = subprocess.Popen([sys.executable, "-S", str(SOURCE), "daemon", str(folder)])
    with daemon:
        while not (folder / "socket").exists():
            assert daemon.poll() is None
            time.sleep(0.01)
        yield FakeRuntime(folder)
        for key in {*FakeRuntime(folder).containers()}:
            subprocess.run([client, "rm", "-f", key], check=False)
        daemon.kill()
