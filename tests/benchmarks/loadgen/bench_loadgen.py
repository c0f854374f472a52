"""`make bench-loadgen`: this load generator and others against a server with a ground-truth log.

Each client runs on core 0, the server on core 1. Reported latencies are compared with the server's
log. CPU time is that of the whole client, from the first request at the server to the exit of the
client, parsing and report included. Rivals are installed into a temporary folder (`--keep` to keep).
"""

import argparse
import datetime
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.loadgen.clients import RIVALS, Client, Reported, Scenario, epoll, ours
from tests.benchmarks.loadgen.processes import Cost, measured
from tests.benchmarks.loadgen.truth import Behaviour, Truth, built, server
from tests.benchmarks.tables import Row, Scaling, document, put

CLIENT_CORE, SERVER_CORE = 0, 1
STREAMS = Behaviour()
SHORT = Behaviour(ttft_ms=30, ttft_jitter_ms=0)
FIREHOSE = Behaviour(itl_ms=0)
SLOW = Behaviour(ttft_ms=3000, ttft_jitter_ms=200, itl_ms=200)

COMPARED = (
    (Scenario("64 streams", 192, 150, streams=64), STREAMS),
    (Scenario("256 streams", 768, 150, streams=256), STREAMS),
    (Scenario("1,024 streams", 3072, 150, streams=1024), STREAMS),
    (Scenario("1,000 requests/s", 5000, 1, rate_per_s=1000), SHORT),
)
PER_SHARD = 400  # streams
LIMITS = (
    (Scenario("1,664 streams", 4992, 150, streams=1664), STREAMS),
    (Scenario("5,000 requests/s", 25000, 1, rate_per_s=5000), SHORT),
    (Scenario("10,000 streams", 30000, 30, streams=10000), SLOW),
    (Scenario("firehose, 64 streams", 640, 4000, streams=64), FIREHOSE),
)


def row(client: Client, scenario: Scenario, reported: Reported, truth: Truth, cost: Cost) -> Row:
    events = int(truth.events.sum())
    begin_ns, end_ns = int(truth.received_ns.min()), int(truth.last_ns.max())
    seconds = (end_ns - begin_ns) / 1e9
    run_s = cost.cpu_between_s(begin_ns, end_ns)
    late_ms = lateness_ms(truth.received_ns, scenario.rate_per_s) if scenario.rate_per_s else None
    span_s = (truth.received_ns.max() - truth.received_ns.min()) / 1e9
    achieved = (len(truth.received_ns) - 1) / span_s if scenario.rate_per_s else None
    about = truth
    if reported.window_s is not None:
        since_epoch_ns = time.time_ns() - time.perf_counter_ns()
        about = truth.ended_between(*(at_s * 1e9 - since_epoch_ns for at_s in reported.window_s))
    gaps_ms, ttft_ms = about.itl_ms, about.ttft_ms
    return Row(
        client=client.name,
        scenario=scenario.name,
        events_s=events / seconds,
        cpu_us_per_event=cost.cpu_between_s(begin_ns, cost.end_ns) / events * 1e6,
        cpu_us_per_event_run=run_s / events * 1e6,
        utilisation=run_s / seconds,
        ttft_p50_error_ms=error(reported.ttft_p50_ms, ttft_ms, 50),
        ttft_p99_error_ms=error(reported.ttft_p99_ms, ttft_ms, 99),
        itl_p50_error_ms=error(reported.itl_p50_ms, gaps_ms, 50),
        itl_p99_error_ms=error(reported.itl_p99_ms, gaps_ms, 99),
        itl_p99_true_ms=float(np.percentile(gaps_ms, 99)) if len(gaps_ms) else None,
        achieved_share=achieved / scenario.rate_per_s if achieved and scenario.rate_per_s else None,
        late_p50_ms=None if late_ms is None else float(np.percentile(late_ms, 50)),
        late_p99_ms=None if late_ms is None else float(np.percentile(late_ms, 99)),
        memory_mb=cost.memory_mb,
        processes=cost.most_processes,
        startup_s=(begin_ns - cost.begin_ns) / 1e9,
        streams_open=most_open(truth),
    )


def error(reported_ms: float | None, true_ms: NDArray[np.float64], percent: float) -> float | None:
    if reported_ms is None or not len(true_ms):
        return None
    return reported_ms - float(np.percentile(true_ms, percent))


def lateness_ms(received_ns: NDArray[np.int64], rate_per_s: float) -> NDArray[np.float64]:
    """Behind the earliest even schedule that no request is ahead of."""
    grid_ns = np.arange(len(received_ns)) * 1e9 / rate_per_s
    behind = np.sort(received_ns) - grid_ns
    late: NDArray[np.float64] = (behind - behind.min()) / 1e6
    return late


def most_open(truth: Truth) -> int:
    times = np.concatenate((truth.received_ns, truth.last_ns))
    steps = np.repeat([1, -1], len(truth.received_ns))
    return int(np.cumsum(steps[np.argsort(times, kind="stable")]).max())


def run_one(client: Client, scenario: Scenario, how: Behaviour, mockllm: Path | None) -> Row | str:
    with (
        tempfile.TemporaryDirectory(prefix="wattfront-bench-") as folder,
        server(how, SERVER_CORE, mockllm) as target,
    ):
        out = Path(folder)
        command = client.command(scenario, target.url, out)
        cost = measured(command, [CLIENT_CORE], client.env, client.priority)
        truth = target.truth()
        try:
            reported = client.read_result(out)
        except (OSError, StopIteration, KeyError, ValueError) as fault:
            last = cost.output.strip().splitlines()[-1:] or ["no output"]
            return f"{client.name}: {scenario.name}: no result (exit {cost.code}, {fault!r}): {last[0]}"
        return row(client, scenario, reported, truth, cost)


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="wattfront-rivals-") as made:
        yield Path(made)


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}"


def sharded(shards: int, mockllm: Path | None) -> Scaling:
    """Each shard has a core; the last one shares it with the server, which has priority."""
    scenario = Scenario("shards", 3 * PER_SHARD * shards, 150, streams=PER_SHARD * shards)
    client = ours()
    with (
        tempfile.TemporaryDirectory(prefix="wattfront-bench-") as folder,
        server(STREAMS, SERVER_CORE, mockllm) as target,
    ):
        command = [*client.command(scenario, target.url, Path(folder)), "--shards", str(shards)]
        cores = [CLIENT_CORE, SERVER_CORE][:shards]
        cost = measured(command, cores)
        one = row(client, scenario, client.read_result(Path(folder)), target.truth(), cost)
        level = json.loads((Path(folder) / "o.json").read_text())["levels"][0]
    assert one.itl_p99_true_ms is not None
    reported = level["metrics"]["itl_p99_ms"]
    return Scaling(shards, one.events_s, one.cpu_us_per_event_run, reported, one.itl_p99_true_ms)


def clients_in(folder: Path, names: Sequence[str]) -> list[Client]:
    made = [ours()]
    limit = built("cclient", folder)
    made += [] if limit is None else [epoll(limit)]
    for name in names:
        install, make = RIVALS[name]
        install(folder)
        made.append(make(folder))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rivals", default=",".join(RIVALS), help="rivals to compare; empty for none"
    )
    parser.add_argument("--only", default="", help="only scenarios with this in their name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep rivals installed here")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument(
        "--own-server", action="store_true", help="use the Python server instead of the C++ one"
    )
    args = parser.parse_args(argv)
    faults: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends all children

    def rows(clients: Sequence[Client], what: Sequence[tuple[Scenario, Behaviour]]) -> list[Row]:
        made = []
        for scenario, how in what:
            for client in clients:
                if args.only in scenario.name:
                    one = run_one(client, scenario, how, mockllm)
                    print(one if isinstance(one, str) else asdict(one), flush=True)  # noqa: T201
                    if isinstance(one, str):
                        faults.append(one)
                    else:
                        made.append(one)
        return made

    with kept(args.keep) as folder:
        mockllm = None if args.own_server else built("mockllm", folder)
        clients = clients_in(folder, [name for name in args.rivals.split(",") if name])
        os.sched_setaffinity(0, {SERVER_CORE})  # so that sampling does not slow the client
        compared, limits = rows(clients, COMPARED), rows(clients[:1], LIMITS)
        scaling = [sharded(n, mockllm) for n in (1, 2)] if args.only in "shards" else []
    against = "the calibrated C++ server" if mockllm else "the server of tests/benchmarks"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = document(compared, limits, faults, scaling, f"{date}, {machine()}, against {against}")
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, "bench-loadgen")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
