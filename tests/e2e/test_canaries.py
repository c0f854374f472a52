"""A real study in an environment full of secrets: none is in any file, log, argument, MLflow record or output.

Each secret may be in the environment of the processes that need it, and of no other.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import MARK, REPO, STUB, Wattfront

pytestmark = pytest.mark.process

VALUE = "c4nary-{}-v4lue"
NAMES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("AWS_PROFILE", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_CONNECTION_STRING", "GITHUB_TOKEN"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NGC_API_KEY"),
    *("IPMI_PASSWORD", "IPMITOOL_PASSWORD", "WATTFRONT_REDFISH_PASSWORD", "OPENAI_API_KEY"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_S3_ENDPOINT_URL", "PGPASSWORD"),
    *("VLLM_API_KEY", "WANDB_API_KEY", "KUBECONFIG", "PIP_INDEX_URL", "SOMETHING_OF_THE_SITE"),
)
PASSED = "SITE_TOKEN"  # named in engine.llamacpp.env_passthrough
CANARIES = {name: VALUE.format(name.lower()).encode() for name in (*NAMES, PASSED)}
LOUD = """#!/bin/sh
env | sed 's/^/loud engine: /'
exec {python} {stub} "$@"
"""
PLATFORM = {"uname"}  # asked by Python's `platform`, for a moment, with the driver's environment


@dataclass
class Findings:
    """Where canaries were seen: kind of place → "what: name"."""

    files: set[str] = field(default_factory=set)
    argv: set[str] = field(default_factory=set)
    environ: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    looked_at: set[str] = field(default_factory=set)

    def search_files(self, *folders: Path) -> None:
        for folder in folders:
            for path in _files(folder):
                try:
                    content = path.read_bytes()
                except OSError:
                    continue
                self.looked_at.add(str(path))
                self.files |= {f"{path}: {name}" for name in _in(content)}

    def search_processes(self, driver: int) -> None:
        for pid in _processes(driver):
            argv, environ = _as_one_program(pid, driver)
            what = _what(argv.decode(errors="replace").split("\0"))
            self.argv |= {f"{what}: {name}" for name in _in(argv)}
            if pid != driver and what not in PLATFORM:
                self.environ[what] |= _in(environ)


def _as_one_program(pid: int, driver: int) -> tuple[bytes, bytes]:
    """Arguments and environment of a process, of one moment; nothing of one that has ended.

    A child is a copy of the driver before it is another program: that is waited for.
    """
    end, own = time.monotonic() + 30, _read(driver, "cmdline")
    while True:
        argv, environ = _read(pid, "cmdline"), _read(pid, "environ")
        changed = argv != _read(pid, "cmdline") or (pid != driver and argv == own)
        if not changed or time.monotonic() > end:
            return argv, environ
        time.sleep(0.05)


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _in(content: bytes) -> set[str]:
    return {name for name, value in CANARIES.items() if value in content}


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).is_file())


def _processes(driver: int) -> Iterator[int]:
    """Each process of the study: found by its parents, or by its environment."""
    mark = MARK.encode()
    try:
        children = {each.pid for each in psutil.Process(driver).children(recursive=True)}
    except psutil.NoSuchProcess:
        children = set()
    yield from (pid for pid in psutil.pids() if pid in children or mark in _read(pid, "environ"))


def _what(words: list[str]) -> str:
    """`raylet`, `ray::Slot`, `supervise.py`, …: the first word that says more than `python`."""
    for word in words:
        name = Path(word).name if "/" in word else word
        if name and not name.startswith(("python", "-")):
            return name.split()[0][:40]
    return "python"


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's folder: its path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="wfc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_no_secret_is_written_or_shown(wattfront: Wattfront, ray_folder: Path) -> None:
    home, temporary = wattfront.folder / "home", wattfront.folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    loud = wattfront.folder / "engine"
    loud.write_text(LOUD.format(python=sys.executable, stub=STUB))
    loud.chmod(0o755)
    overrides = [each for each in wattfront.stub() if not each.startswith("tracking=")]
    arguments = ["tune", *overrides, "search.trials=2", f"engine.llamacpp.executable={loud}"]
    passed = f"+engine.llamacpp.env_passthrough=[{PASSED}]"
    own = {"HOME": str(home), "TMPDIR": str(temporary), "RAY_TMPDIR": str(ray_folder)}
    secrets = {name: value.decode() for name, value in CANARIES.items()}
    mark = {MARK: str(wattfront.folder), "PYTHONPATH": str(REPO), "COLUMNS": "200"}
    found, output = Findings(), wattfront.folder / "output"
    with (
        output.open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-m", "tuner", *arguments, passed],
            cwd=wattfront.folder,
            env={**os.environ, **mark, **own, **secrets},
            stdout=said,
            stderr=subprocess.STDOUT,
            umask=0o022,
            start_new_session=True,
        ) as study,
    ):
        deadline = time.monotonic() + 300
        while study.poll() is None:
            assert time.monotonic() < deadline, output.read_text()
            found.search_processes(study.pid)
            found.search_files(ray_folder, temporary)
            time.sleep(0.5)  # between two looks
    text = output.read_text()
    assert study.returncode in (0, 3), text
    assert sum(line["status"] == "completed" for line in wattfront.lines()) == 2, text

    found.search_files(wattfront.folder)
    looked_at = {Path(path).name for path in found.looked_at}
    expected = {"ledger.jsonl", "study.yaml", "engine.log", "mlflow.db", "output", "raylet.out"}
    assert expected <= looked_at
    # What the engine itself prints, while it runs: in a private folder that is gone afterwards.
    live = {each for each in found.files if each.startswith(f"{temporary}/wattfront-")}
    assert {each.rpartition("/")[2] for each in live} <= {f"engine.log: {PASSED}"}
    assert list(temporary.glob("wattfront-*/engine.log")) == []
    assert found.files - live == set()
    assert found.argv == set()
    seen = {what: names for what, names in found.environ.items() if names - {PASSED}}
    assert seen == {}, seen
    with_token = {what for what, names in found.environ.items() if PASSED in names}
    assert {what for what in found.environ if "stub_engine" in what} <= with_token
    logs = [path.read_text() for path in wattfront.study().glob("trials/*/engine.log")]
    assert len(logs) == 2
    assert all(f"loud engine: {PASSED}=***" in log for log in logs)
    assert_private(wattfront)


def assert_private(wattfront: Wattfront) -> None:
    """The study's folder and what is beside it: for its owner alone, whatever the umask."""
    study = wattfront.study()
    private = [study, study.parent / "mlflow.db", study.parent / "mlartifacts"]
    private += [study / "ledger.jsonl", study / "study.yaml", *study.glob("trials/*/*")]
    open_to_others = [str(path) for path in private if path.stat().st_mode & 0o077]
    assert open_to_others == []
