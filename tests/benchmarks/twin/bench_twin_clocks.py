"""`make bench-twin-clocks`: the twin's two clocks.

Speed of the virtual clock, differences between wall and virtual clock, and the load that the server sustains on
one core.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil

import loadgen
from loadgen.results.stats import summarize
from serving import probe
from serving.engines import SgLang, TrtLlm, Vllm
from serving.engines.base import BaseEngine
from serving.launch import LaunchSpec, launched
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig
from tests.benchmarks.tables import put, table
from tuner.config.groups.hardware import Hardware
from tuner.config.trial import TrialConfig
from tuner.trial.result import Completed
from tuner.trial.simulate import simulate_trial

ROOT = Path(__file__).parents[3]
B300 = TwinConfig(system="b300_sxm")
FP8 = Model(
    name="m",
    source="nvidia/Llama-3.1-70B-Instruct-FP8",
    context_tokens=4096,
    vocabulary=128256,
)
SMALL = Model(
    name="m", source="nvidia/Llama-3.1-8B-Instruct-FP8", context_tokens=4096, vocabulary=128256
)
COMPARED = ("throughput_output_tok_s", "tpot_p50_ms", "ttft_p50_ms")
REPEATS = 3
LOADS = ((128, 4, 1), (512, 1, 1), (800, 1, 2), (1024, 1, 2), (1280, 1, 2))  # users, TP, DP
DRAIN = Path(__file__).with_name("drain.py")


def trial(
    engine: BaseEngine,
    model: Model,
    tensor: int,
    users: int,
    workload: dict[str, object],
    data: int = 1,
) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "engine": engine.model_dump(),
            "model": model,
            "topology": Topology(tensor_parallel=tensor, data_parallel=data),
            "hardware": Hardware(name="twin", device="GPU", devices_per_node=8, twin=B300),
            "workload": {
                "name": "w",
                "arrival": {"kind": "closed", "concurrency": [users]},
                **workload,
            },
        }
    )


def simulated(config: TrialConfig) -> Completed:
    result = simulate_trial(config).result
    assert isinstance(result, Completed), result
    return result


# --- the virtual clock


def speed(users: int) -> tuple[float, float, float]:
    """Virtual seconds, CPU seconds and their ratio; the best of REPEATS runs."""
    lengths = {"input_tokens": 1024, "output_tokens": 1024, "warmup_s": 10, "level_s": 120}
    config = trial(Vllm(max_num_seqs=1024), FP8, 4, users, {**lengths, "level_max_s": 400})
    runs = []
    for _ in range(REPEATS):
        began_s = time.process_time()
        virtual_s = simulated(config).timings.load_s
        runs.append((virtual_s, time.process_time() - began_s))
    virtual_s, cpu_s = max(runs, key=lambda run: run[0] / run[1])
    return virtual_s, cpu_s, virtual_s / cpu_s


# --- wall against virtual


def wall(config: TrialConfig) -> dict[str, float | None]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        spec = LaunchSpec(config.engine, config.model, config.topology, log, config.hardware.twin)
        devices = tuple(map(str, range(config.topology.gpus)))
        with launched(spec, devices=devices) as running:
            url = running.endpoint.base_url
            report = loadgen.run(url, "m", config.workload, vocabulary=config.model.vocabulary)
            late = probe.get_json(f"{url}/twin/lag")
    stats = summarize(report.levels[0])
    return {**stats.metrics, "late_p99_ms": late["p99_ms"]}


def differences() -> list[list[str]]:
    rows = []
    lengths = {"input_tokens": 1024, "output_tokens": 256, "warmup_s": 5, "level_s": 30}
    for engine in (Vllm(), SgLang(), TrtLlm()):
        config = trial(engine, FP8, 4, 32, {**lengths, "level_max_s": 60})
        (point,) = simulated(config).points
        seen = wall(config)
        row = [engine.kind]
        for metric in COMPARED:
            modelled, measured = point.metrics[metric] or 0.0, seen[metric] or 0.0
            row += [f"{modelled:.4g}", f"{measured:.4g}", f"{measured / modelled - 1:+.1%}"]
        rows.append([*row, f"{seen['late_p99_ms']:.2f}"])
    return rows


# --- the server's capacity


@dataclass(frozen=True, slots=True)
class Capacity:
    """Server load at a number of users. `asked_tok_s`: the emulated engine's rate on its own clock."""

    users: int
    asked_tok_s: float
    tok_s: float
    cpu_us_per_event: float
    core_share: float
    late_p50_ms: float
    late_p99_ms: float
    late_share: float
    shifts: int


def capacity(users: int, tensor: int, data: int, seconds: float = 10.0) -> Capacity:
    """The server on the last core, a client that only drains its sockets on the first."""
    lengths = {"input_tokens": 16, "output_tokens": 1000, "warmup_s": 10, "level_s": 40}
    engine = Vllm(max_num_seqs=2048)
    (point,) = simulated(trial(engine, SMALL, tensor, users, lengths, data)).points
    port, cores = probe.free_port(), sorted(os.sched_getaffinity(0))
    flags = ["--tensor-parallel-size", str(tensor), "--max-num-seqs", "2048", "--port", str(port)]
    flags += [
        "--data-parallel-size",
        str(data),
        "--served-model-name",
        "m",
        "--max-model-len",
        "8192",
        "--host",
        "127.0.0.1",
    ]
    command = ["taskset", "-c", str(cores[-1]), sys.executable, "-m", "serving.twin"]
    command += ["--system", "b300_sxm", "--", "vllm", "serve", SMALL.source, *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as server:
        try:
            _until_listening(port)
            drain = ["taskset", "-c", str(cores[0]), sys.executable, str(DRAIN)]
            output = subprocess.run(
                [*drain, str(port), str(users), str(seconds), str(server.pid)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            late = probe.get_json(f"http://127.0.0.1:{port}/twin/lag")
        finally:
            server.terminate()
    events, cpu_s, took_s = map(float, re.findall(r"[\d.]+", output))
    return Capacity(
        users,
        point.metrics["throughput_output_tok_s"] or 0.0,
        events / took_s,
        cpu_s / events * 1e6,
        cpu_s / took_s,
        late["p50_ms"],
        late["p99_ms"],
        late["late_share"],
        int(late["shifts"]),
    )


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not listen within 60 s")


def markdown() -> str:
    speeds = [(users, *speed(users)) for users in (64, 1024)]
    loads = [capacity(*each) for each in LOADS]
    compared = differences()
    cpu = f"{psutil.cpu_count()} cores, Python {sys.version.split()[0]}"
    return "\n\n".join(
        [
            f"Measured {date.today().isoformat()} on {cpu}; modelled: Llama 3.1 on B300.",
            "**The virtual clock**: Llama 3.1 70B FP8, TP4, vLLM, 1,024 → 1,024 tokens; a level with "
            "all that a trial does with it (prompts, window, figures).",
            table(
                ["users", "virtual s", "CPU s", "× real time"],
                [[str(u), f"{v:.0f}", f"{c:.2f}", f"{r:.0f}"] for u, v, c, r in speeds],
            ),
            "**Wall against virtual**: the same configuration (TP4, 32 users, 1,024 → 256 tokens) as a "
            "process under load, and without waiting.",
            table(
                [
                    "engine",
                    *(
                        f"{name}{part}"
                        for name in ("tok/s", "TPOT ms", "TTFT ms")
                        for part in PARTS
                    ),
                    "late p99 ms",
                ],
                compared,
            ),
            "**What the server carries**: one core for it, one for a client that only drains its sockets; "
            "one token an event; Llama 3.1 8B FP8, vLLM.",
            table(
                [
                    "users",
                    "tok/s by its clock",
                    "tok/s given out",
                    "CPU µs/event",
                    "of its core",
                    "late p50 ms",
                    "p99",
                    "steps late by > 10 % and 1 ms",
                    "shifts",
                ],
                [_row(each) for each in loads],
            ),
        ]
    )


PARTS = (" virtual", " wall", "")


def _row(each: Capacity) -> list[str]:
    return [
        str(each.users),
        f"{each.asked_tok_s:,.0f}",
        f"{each.tok_s:,.0f}",
        f"{each.cpu_us_per_event:.1f}",
        f"{each.core_share:.0%}",
        f"{each.late_p50_ms:.2f}",
        f"{each.late_p99_ms:.2f}",
        f"{each.late_share:.1%}",
        str(each.shifts),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to put the tables into")
    args = parser.parse_args(arguments)
    text = markdown()
    sys.stdout.write(f"{text}\n")
    if args.write:
        put(f"{text}\n", args.write, "bench-twin-clocks")


if __name__ == "__main__":
    main()
