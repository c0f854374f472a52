"""Servers with a ground-truth log: when they received each request and sent each event."""

import csv
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.loadgen.processes import pinned

Times = NDArray[np.int64]
ROOT = Path(__file__).parents[3]
MOCKLLM = ROOT.parent / "shared" / "tools" / "mockllm" / "mockllm.cpp"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`itl_ms` 0: as fast as the socket accepts, 80 events per write."""

    ttft_ms: float = 100.0
    ttft_jitter_ms: float = 20.0
    itl_ms: float = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One entry a request; `sent_ns` one an event, empty where events were not logged."""

    received_ns: Times
    first_ns: Times
    last_ns: Times
    events: Times
    sent_ns: Times
    offsets: Times

    @property
    def ttft_ms(self) -> NDArray[np.float64]:
        return (self.first_ns - self.received_ns) / 1e6

    @property
    def itl_ms(self) -> NDArray[np.float64]:
        gaps = np.diff(self.sent_ns) / 1e6
        owner = np.repeat(np.arange(len(self.events)), np.diff(self.offsets))
        return gaps[owner[1:] == owner[:-1]]

    def ended_between(self, from_ns: float, until_ns: float) -> "Truth":
        """Only the requests that ended in that time."""
        rows = np.logical_and(self.last_ns >= from_ns, self.last_ns < until_ns)
        counts = np.diff(self.offsets)
        events = np.repeat(rows, counts)
        columns = (self.received_ns, self.first_ns, self.last_ns, self.events)
        offsets = np.concatenate(([0], np.cumsum(counts[rows])))
        return Truth(*(c[rows] for c in columns), self.sent_ns[events], offsets)

    @classmethod
    def of_own(cls, file: Path) -> Self:
        log = np.load(file)
        offsets, sent_ns = log["offsets"], log["sent_ns"]
        some = np.diff(offsets) > 0
        first = np.where(some, sent_ns[np.minimum(offsets[:-1], len(sent_ns) - 1)], 0)
        last = np.where(some, sent_ns[offsets[1:] - 1], 0)
        return cls(log["received_ns"], first, last, np.diff(offsets), sent_ns, offsets)

    @classmethod
    def of_mockllm(cls, prefix: Path) -> Self:
        with Path(f"{prefix}.req.csv").open() as file:
            rows = list(csv.DictReader(file))
        names = ("recv_ns", "first_send_ns", "last_send_ns", "sent_ev", "ev_off", "ev_n")
        recv, first, last, sent, offset, count = (
            np.array([int(row[name]) for row in rows], np.int64) for name in names
        )
        pairs = np.fromfile(f"{prefix}.ev.bin", np.uint64).astype(np.int64).reshape(-1, 2)
        spans = zip(offset.tolist(), count.tolist(), strict=True)
        parts = [pairs[start : start + length, 1] for start, length in spans]
        stamps = np.concatenate([np.zeros(0, np.int64), *parts])
        return cls(recv, first, last, sent, stamps, np.concatenate(([0], np.cumsum(count))))


class Server:
    """A running server; `truth()` ends it and reads its log."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, log: Path, own: bool) -> None:
        self._process, self._log, self._own = process, log, own
        self.url = f"http://127.0.0.1:{port}"

    def truth(self) -> Truth:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        return Truth.of_own(self._log) if self._own else Truth.of_mockllm(self._log)


@contextmanager
def server(behaviour: Behaviour, core: int, mockllm: Path | None) -> Iterator[Server]:
    """The Python server, or the C++ one if its executable is given, on its own core."""
    with tempfile.TemporaryDirectory(prefix="wattfront-bench-") as folder:
        log = Path(folder) / ("truth" if mockllm else "truth.npz")
        options = ["--ttft-ms", str(behaviour.ttft_ms), "--itl-ms", str(behaviour.itl_ms)]
        options += ["--ttft-jitter-ms", str(behaviour.ttft_jitter_ms), "--log", str(log)]
        port = _free_port()
        if mockllm is not None:
            command = [str(mockllm), "--port", str(port), *options]
            if not behaviour.itl_ms:
                command += ["--log-events", "0"]
        else:
            own = [sys.executable, "-m", "tests.benchmarks.loadgen.mock_server"]
            command = [*own, "--port", str(port), *options]
        with subprocess.Popen(
            pinned(command, [core], "first"),
            cwd=ROOT,
            text=True,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                _await(port, process)
                yield Server(process, port, log, own=mockllm is None)
            finally:
                process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def _await(port: int, process: "subprocess.Popen[str]") -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}") from None
            time.sleep(0.05)
        else:
            return


def built(name: str, folder: Path) -> Path | None:
    """`mockllm`, the calibrated C++ server, or `cclient`, its client; None without source or compiler."""
    source = MOCKLLM.with_name(f"{name}.cpp")
    if not source.exists() or not shutil.which("g++"):
        return None
    made = folder / name
    command = ["g++", "-O3", "-march=native", "-std=c++20", "-o", str(made), str(source)]
    subprocess.run(command, check=True)
    return made
