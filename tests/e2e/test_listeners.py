"""Nobody gets in: every port of a local study is loopback's, or refuses whoever has no token."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Wattfront

pytestmark = pytest.mark.process

STRANGER = Path(__file__).with_name("stranger.py")
LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Elsewhere:
    """A network namespace, and the address under which it reaches this machine."""

    name: str
    host: str

    def tries(self, ports: list[int], folder: Path) -> dict[int, list[str]]:
        """What somebody there gets of these ports."""
        return tries(ports, folder, self.host, "ip", "netns", "exec", self.name)


def tries(ports: list[int], folder: Path, host: str, *where: str) -> dict[int, list[str]]:
    words = [*where, sys.executable, str(STRANGER), host, str(folder), *map(str, ports)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600)
    return {int(port): found for port, found in json.loads(outcome.stdout).items()}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Addresses are of the range for benchmarks of networks, which nobody else uses."""
    pid = os.getpid()
    name, ours, theirs = f"wf-{pid}", f"wfh{pid}", f"wfn{pid}"
    net = f"198.18.{pid // 64 % 256}.{pid % 64 * 4}"
    base, _, last = net.rpartition(".")
    host, other = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root and network namespaces: {error}")
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", f"{host}/30", "dev", ours)
        ip("link", "set", ours, "up")
        for words in (("addr", "add", f"{other}/30", "dev", theirs), ("link", "set", theirs, "up")):
            ip("-n", name, *words)
        yield Elsewhere(name, host)
    finally:
        ip("netns", "del", name)
        with contextlib.suppress(subprocess.CalledProcessError):  # it goes with its peer
            ip("link", "del", ours)


def listeners(product: Wattfront) -> list[tuple[str, str, int]]:
    """(process, address, port) of every socket that listens in any process of a run."""
    found = set()
    for process in product.marked():
        with contextlib.suppress(psutil.NoSuchProcess):
            name = Path((process.cmdline() or ["?"])[0]).name.split(":engine")[0]
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    found.add((name, each.laddr.ip.removeprefix("::ffff:"), each.laddr.port))
    return sorted(found)


def emptied(folder: Path, within_s: float) -> bool:
    """Whoever removes Ray's folder after a killed driver does it once its processes have ended."""
    deadline = time.monotonic() + within_s
    while any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(folder.iterdir())


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: Ray puts sockets below it."""
    with tempfile.TemporaryDirectory(prefix="wf-") as folder:
        yield Path(folder)


def test_nobody_gets_into_a_study_of_two_nodes(
    wattfront: Wattfront, elsewhere: Elsewhere, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, made = wattfront.folder / "home", wattfront.folder / "made"
    home.mkdir()
    made.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RAY_TMPDIR", str(temporary))
    arguments = [
        "cluster.nodes=2",
        "search.trials=1",
        "workload.level_s=200",
        "workload.level_max_s=300",
    ]
    with wattfront.start("tune", *wattfront.stub(), *arguments) as driver:
        try:
            wattfront.wait_for_engine(within_s=400)
            found = listeners(wattfront)
            ports = sorted({port for _, _, port in found})
            there, here = elsewhere.tries(ports, made), tries(ports, made, "127.0.0.1")
        finally:
            driver.kill()
    lines = [f"{name} {address}:{port} {there[port]}" for name, address, port in found]
    table = "\n".join(lines)
    assert list(made.iterdir()) == [], f"code was run:\n{table}"
    for name, address, port in found:
        if address in LOOPBACK:
            assert there[port] == ["refused"], f"{port}\n{table}"
        else:
            assert there[port] == ["UNAUTHENTICATED", "UNIMPLEMENTED"], f"{port}\n{table}"
        # Other users of this machine have no token either. What is not gRPC is UNAVAILABLE.
        assert "OK" not in here[port], f"{port} {here[port]}\n{table}"
        if name in ("gcs_server", "raylet") or name.startswith("ray::Serve"):
            assert "UNAUTHENTICATED" in here[port], f"{port} {here[port]}\n{table}"
    names = " ".join(name for name, _, _ in found)
    assert all(each in names for each in ("gcs_server", "raylet", "ServeReplica")), table
    assert not (home / ".ray").exists()
    assert wattfront.leftovers(within_s=60) == []
    assert emptied(temporary, within_s=60)


def test_the_attempts_would_succeed_where_there_is_no_token(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Somebody who unpickles what comes, as a replica without authentication does."""
    server = """
import sys, pickle, grpc
from concurrent.futures import ThreadPoolExecutor
from ray.serve.generated import serve_pb2, serve_pb2_grpc
class Open(serve_pb2_grpc.ASGIServiceServicer):
    def HandleRequest(self, request, context):
        pickle.loads(request.pickled_request_metadata)
        return serve_pb2.ASGIResponse()
each = grpc.server(ThreadPoolExecutor(1))
serve_pb2_grpc.add_ASGIServiceServicer_to_server(Open(), each)
print(each.add_insecure_port("[::]:0"), flush=True)
each.start()
sys.stdin.read()
"""
    command = [sys.executable, "-c", server]
    with (
        socket.socket() as loopback,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one,
    ):
        loopback.bind(("127.0.0.1", 0))
        loopback.listen()
        assert one.stdout is not None
        port, closed = int(one.stdout.readline()), loopback.getsockname()[1]
        answers = elsewhere.tries([port, closed], tmp_path)
    assert answers[closed] == ["refused"]
    assert "OK" in answers[port]
    assert [path.name for path in tmp_path.iterdir()] == [str(port)]
