"""Converts a level to the result format of `vllm bench serve --save-result`.

Keys and formulas are those of vLLM 0.32 (vllm/benchmarks/serve.py): percentiles
are interpolated, TPOT is (latency - TTFT) / (output tokens - 1), rates are over
the measured window. Differences: only requests inside the window count, and
latencies begin when a request was due.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.results.records import Records, from_parquet, metadata_of
from loadgen.results.report import LoadReport

KEY = "wattfront"
_MS = 1e3


@dataclass(frozen=True, slots=True)
class LevelMetadata:
    """What the records of a level do not contain: its load and its window (ns)."""

    load: str
    concurrency: int | None
    rate_per_s: float | None
    start_ns: int
    end_ns: int


def levels_metadata(report: LoadReport, model: str, url: str) -> dict[str, str]:
    """The key-value pairs of the Parquet file that this converter needs."""
    levels = [
        LevelMetadata(
            level.load,
            level.concurrency,
            level.rate_per_s,
            level.window.start_ns,
            level.window.end_ns,
        )
        for level in report.levels
    ]
    clock = {"perf_ns": report.clock.perf_ns, "epoch_ns": report.clock.epoch_ns}
    metadata = {"model": model, "url": url, "clock": clock, "levels": [asdict(v) for v in levels]}
    return {KEY: json.dumps(metadata)}


def vllm_bench(
    records: Records, level: LevelMetadata, model: str, start_s: float = 0.0, detailed: bool = False
) -> dict[str, Any]:
    """The result of one level. `start_s`: start of the window, seconds since the epoch.

    `detailed`: with lists of one entry a request.
    """
    seconds = (level.end_ns - level.start_ns) / 1e9
    moments = records.due_ns if level.concurrency is None else records.end_ns
    cohort = np.logical_and(moments >= level.start_ns, moments < level.end_ns)
    good = np.flatnonzero(cohort & records.completed)
    failed = int(np.count_nonzero(cohort & records.failed))
    outputs = np.where(records.output_tokens >= 0, records.output_tokens, records.events)[good]
    inputs = np.maximum(records.input_tokens[good], 0)
    ttft_s = (records.first_ns - records.due_ns)[good] / 1e9
    e2e_s = (records.last_ns - records.due_ns)[good] / 1e9
    several = outputs > 1
    tpot_s = (e2e_s - ttft_s)[several] / (outputs[several] - 1)
    itls = [np.diff(_events(records, row)) / 1e9 for row in good.tolist()]
    start = datetime.datetime.fromtimestamp(start_s, datetime.UTC)
    made: dict[str, Any] = {
        "date": start.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai",
        "backend": "openai",
        "label": None,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": len(good) + failed,
        "request_rate": "inf" if level.rate_per_s is None else level.rate_per_s,
        "burstiness": 1.0,
        "max_concurrency": level.concurrency,
        "duration": seconds,
        "completed": len(good),
        "failed": failed,
        "total_input_tokens": int(inputs.sum()),
        "total_output_tokens": int(outputs.sum()),
        "request_throughput": len(good) / seconds,
        "request_goodput": None,
        "output_throughput": float(outputs.sum()) / seconds,
        "total_token_throughput": float(outputs.sum() + inputs.sum()) / seconds,
        **_peaks(records, good, level),
        "rtfx": 0.0,
    }
    gaps_s = np.concatenate([np.zeros(0), *itls])
    for name, values in (("ttft", ttft_s), ("tpot", tpot_s), ("itl", gaps_s), ("e2el", e2e_s)):
        made |= _statistics(name, values)
    if detailed:
        made |= {
            "input_lens": inputs.tolist(),
            "output_lens": outputs.tolist(),
            "ttfts": ttft_s.tolist(),
            "itls": [gaps.tolist() for gaps in itls],
            "latencies": e2e_s.tolist(),
            "start_times": (records.due_ns[good] / 1e9).tolist(),
            "queue_times": ((records.sent_ns - records.due_ns)[good] / 1e9).tolist(),
            "generated_texts": [""] * len(good),
            "errors": [""] * len(good),
        }
    return made


def _statistics(name: str, values_s: NDArray[np.float64]) -> dict[str, float]:
    """As in vLLM, all are 0 without values."""
    ms = values_s * _MS if len(values_s) else np.zeros(1)
    return {
        f"mean_{name}_ms": float(ms.mean()),
        f"median_{name}_ms": float(np.median(ms)),
        f"std_{name}_ms": float(ms.std()),
        f"p99_{name}_ms": float(np.percentile(ms, 99)),
    }


def _events(records: Records, row: int) -> NDArray[np.int64]:
    return records.event_ns[records.event_offsets[row] : records.event_offsets[row + 1]]


def _peaks(
    records: Records, good: NDArray[np.int64], level: LevelMetadata
) -> dict[str, float | int]:
    """Over the busiest second of the window."""
    if not len(good):
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    edges = np.arange(level.start_ns, level.end_ns + 10**9, 10**9)
    tokens, _ = np.histogram(records.event_ns, edges, weights=records.event_tokens)
    active = [
        int(np.count_nonzero((records.due_ns[good] < stop) & (records.last_ns[good] >= start)))
        for start, stop in pairwise(edges)
    ]
    return {
        "max_output_tokens_per_s": float(tokens.max()),
        "max_concurrent_requests": max(active),
    }


def convert(file: Path, level: int | None, detailed: bool) -> dict[str, Any]:
    """The result of one level of a file. Raises ValueError in one line, or OSError."""
    data = file.read_bytes()
    try:
        metadata = _decoded(metadata_of(data))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    levels = [LevelMetadata(**each) for each in metadata["levels"]]
    if level is None and len(levels) > 1:
        known = ", ".join(f"{i} ({each.load})" for i, each in enumerate(levels))
        raise ValueError(f"{file} has several levels, choose one with --level: {known}")
    index = level or 0
    if not 0 <= index < len(levels):
        raise ValueError(f"{file} has no level {index}, only 0 to {len(levels) - 1}")
    chosen, clock = levels[index], metadata["clock"]
    start_s = (clock["epoch_ns"] + chosen.start_ns - clock["perf_ns"]) / 1e9
    records = from_parquet(data)
    return vllm_bench(
        records.of_level(index), chosen, str(metadata["model"]), start_s, detailed=detailed
    )


def _decoded(pairs: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in pairs:
        raise ValueError("expected a file written by `python -m loadgen --parquet`")
    found: dict[str, Any] = json.loads(pairs[KEY])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadgen.cli.vllm_export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parquet", type=Path, help="file written by `python -m loadgen --parquet`")
    parser.add_argument("--level", type=int, metavar="N", help="level to convert, from 0")
    parser.add_argument(
        "--detailed", action="store_true", help="add lists with one entry a request"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: stdout")
    args = parser.parse_args(argv)
    try:
        text = json.dumps(convert(args.parquet, args.level, args.detailed)) + "\n"
        if args.out is None:
            sys.stdout.write(text)
        else:
            args.out.write_text(text)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {(error.strerror or str(error)).lower()}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
