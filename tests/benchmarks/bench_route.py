"""`make bench-route`: what a router between load and engine costs, at equal loads side by side.

The engine is a server that answers by a fixed schedule, so that whatever is later with the router is the
router's. Load and router share one core, as on a node whose cores are few; the server has the other.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from serving import probe
from serving.launch.located import router_executable
from serving.launch.routers import ROUTERS, Backend, RouterStart
from tests.benchmarks.loadgen.bench_loadgen import CLIENT_CORE, SERVER_CORE, machine
from tests.benchmarks.loadgen.clients import Scenario, ours
from tests.benchmarks.loadgen.truth import Behaviour, built, server
from tests.benchmarks.tables import put, table

MARK = "bench-route"
USERS = (1, 16, 64, 256)
TOKENS, SECONDS = 100, 6
ENGINE = Behaviour(ttft_ms=50, ttft_jitter_ms=20, itl_ms=10)
METRICS = ("ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms", "throughput_output_tok_s")


@contextmanager
def routed(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """vLLM's router before the server, as a trial starts it."""
    router, port = ROUTERS["vllm"], probe.free_port("127.0.0.1")
    start = RouterStart(
        router_executable(router.environment, router.command),
        "127.0.0.1", port, probe.free_port("127.0.0.1"), [Backend("", url)],
    )  # fmt: skip
    pinned = ["taskset", "-c", str(CLIENT_CORE), *router.arguments(start)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(pinned, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            front, until_s = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while probe.completes(front, "mock", None, 5) != 200:
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError("the router does not answer")
                time.sleep(0.2)
            yield front, psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def level(url: str, users: int) -> dict[str, float]:
    """The metrics of one load level."""
    requests = max(20, users * SECONDS * 1000 // (60 + 10 * TOKENS))
    with tempfile.TemporaryDirectory(prefix="wattfront-bench-") as folder:
        scenario = Scenario("route", requests, TOKENS, streams=users)
        command = ["taskset", "-c", str(CLIENT_CORE), *ours().command(scenario, url, Path(folder))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads((Path(folder) / "o.json").read_text())["levels"][0]
        return {name: found["metrics"][name] for name in METRICS}


def rows(mockllm: Path | None) -> Iterator[list[str]]:
    with server(ENGINE, SERVER_CORE, mockllm) as engine, routed(engine.url) as (front, process):
        for users in USERS:
            direct, before_s = level(engine.url, users), cpu_s(process)
            through = level(front, users)
            spent_s = cpu_s(process) - before_s
            events = max(20, users * SECONDS * 1000 // (60 + 10 * TOKENS)) * TOKENS
            differences = [f"{through[name] - direct[name]:+.2f}" for name in METRICS[:4]]
            ratio = through[METRICS[4]] / direct[METRICS[4]]
            yield [str(users), *differences, f"{ratio:.1%}", f"{spent_s / events * 1e6:.1f}"]


def cpu_s(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the table, as Markdown")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="wattfront-route-") as folder:
        mockllm = built("mockllm", Path(folder))
        found = list(rows(mockllm))
    against = "the calibrated C++ server" if mockllm else "the server of tests/benchmarks"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    columns = [
        "users",
        "TTFT p50 ms",
        "p99",
        "ITL p50 ms",
        "p99",
        "throughput",
        "router's CPU µs a token",
    ]
    text = f"*{date}, {machine()}, {against}: with vllm-router less direct*\n\n{table(columns, found)}\n"
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, MARK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
