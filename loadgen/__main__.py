"""`python -m loadgen URL`: drives one endpoint and prints its figures."""

import argparse
import http.client
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadgen import report as reports
from loadgen import runner
from loadgen.errors import BadTarget, EndpointErrors, EndpointUnreachable, LoadError
from loadgen.protocol import Target
from loadgen.records import concat, to_parquet_bytes
from loadgen.replies import first_line
from loadgen.report import LoadReport
from loadgen.stats import LevelStats, summarize
from loadgen.workload import Workload

EXAMPLE = """example:
  python -m loadgen http://127.0.0.1:8000 --concurrency 1,2,4,8 --input-tokens 512
  python -m loadgen http://127.0.0.1:8000 --rate 0.5,1,2 --duration 60 --parquet records.parquet

Latencies count from when a request was due. A line marked ! is not to be trusted: why stands below.
"""

COLUMNS = (
    ("throughput_output_tok_s", "tok/s", 1),
    ("interactivity_tok_s_user", "tok/s/user", 1),
    ("ttft_p50_ms", "TTFT p50 ms", 0),
    ("ttft_p99_ms", "p99", 0),
    ("tpot_p50_ms", "TPOT p50 ms", 1),
    ("e2e_p50_ms", "E2E p50 ms", 0),
    ("requests_completed", "done", 0),
    ("requests_failed", "failed", 0),
)

OPTIONS = {  # where an option is not called as its field
    "level_s": "duration",
    "level_max_s": "max-duration",
    "min_requests": "requests",
    "warmup_s": "warmup",
    "request_timeout_s": "timeout",
    "rate_per_s": "rate",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m loadgen",
        description="Drives an OpenAI-compatible endpoint over a ladder of load levels.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("url", help="http://HOST:PORT, with or without /v1")
    load = made.add_mutually_exclusive_group()
    load.add_argument(
        "--concurrency", metavar="N,N", default="1", help="closed loop: users a level"
    )
    load.add_argument("--rate", metavar="R,R", help="open loop: requests per second of each level")
    add("--max-concurrency", type=int, help="open loop: more than so many wait, and it counts")
    add("--duration", type=float, default=10.0, metavar="S", help="measured time of a level (10)")
    add("--warmup", type=float, default=2.0, metavar="S", help="before each level (2)")
    add("--requests", type=int, default=0, metavar="N", help="a level goes on until it has so many")
    add("--max-duration", type=float, metavar="S", help="... but not longer (6 times the duration)")
    add("--timeout", type=float, default=120.0, metavar="S", help="of a request (120)")
    add("--endpoint", choices=("completions", "chat"), default="completions")
    add("--prompt", choices=("token_ids", "text"), help="token_ids (exact lengths); text for chat")
    add("--input-tokens", type=int, default=128, metavar="N", help="128")
    add("--output-tokens", type=int, default=64, metavar="N", help="64")
    add("--stop-at-eos", action="store_true", help="answers may end early")
    add("--model", help="the first that the endpoint lists, if not given")
    add("--vocabulary", type=int, default=32000, metavar="N", help="of the model (32000)")
    add("--api-key", help="sent as a bearer token")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="all figures as JSON on stdout, no table")
    add("--parquet", type=Path, metavar="FILE", help="one row a request")
    return made


def numbers(option: str, value: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    try:
        return [kind(word) for word in value.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers as in 1,2,4: {value!r}") from None


def workload(args: argparse.Namespace) -> Workload:
    """Raises ValueError (pydantic's is one)."""
    if args.rate is not None:
        arrival = {
            "kind": "poisson",
            "rate_per_s": numbers("--rate", args.rate, float),
            "max_concurrency": args.max_concurrency,
        }
    elif args.max_concurrency is not None:
        raise ValueError("--max-concurrency goes with --rate")
    else:
        steps = numbers("--concurrency", args.concurrency, int)
        arrival = {"kind": "closed", "concurrency": steps}
    return Workload.model_validate(
        {
            "name": "command line",
            "endpoint": args.endpoint,
            "prompt": args.prompt or ("text" if args.endpoint == "chat" else "token_ids"),
            "input_tokens": args.input_tokens,
            "output_tokens": args.output_tokens,
            "ignore_eos": not args.stop_at_eos,
            "arrival": arrival,
            "warmup_s": args.warmup,
            "level_s": args.duration,
            "min_requests": args.requests,
            "level_max_s": args.max_duration or 6 * args.duration,
            "request_timeout_s": args.timeout,
            "seed": args.seed,
        }
    )


def complaint(error: ValueError) -> str:
    """One line, in the words of the command line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    keys = [str(k) for k in first["loc"] if k not in ("arrival", "closed", "poisson")]
    if not keys or (isinstance(first["loc"][-1], int) and len(keys) > 2):
        return first["msg"].removeprefix("Value error, ")
    option = OPTIONS.get(keys[0], keys[0]).replace("_", "-")
    return f"--{option}: {first['msg'].lower()} (got {first['input']!r})"


def first_model(target: Target) -> str:
    """The first that the endpoint lists."""
    secure = target.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = make(target.host, target.port, timeout=runner.CONNECT_TIMEOUT_S)
    key = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    try:
        connection.request("GET", f"{target.prefix}/models", headers=key)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        line = f"can't connect to {target.authority}: {error}"
        raise EndpointUnreachable(line) from error
    finally:
        connection.close()
    try:
        if reply.status == 200:
            return str(msgspec.json.decode(body)["data"][0]["id"])
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        pass
    line = f"HTTP {reply.status} for the list of models: {first_line(body)}; name one by --model"
    raise EndpointErrors(line, reply.status)


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def print_table(console: Console, report: LoadReport, stats: Sequence[LevelStats]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("load", no_wrap=True)
    for _, title, _ in COLUMNS:
        table.add_column(title, justify="right")
    for level, figures in zip(report.levels, stats, strict=True):
        mark = "! " if figures.invalid_because else ""
        cells = [shown(figures.metrics[name], digits) for name, _, digits in COLUMNS]
        table.add_row(mark + level.load, *cells)
    console.print(table)
    for level, figures in zip(report.levels, stats, strict=True):
        for doubt in figures.invalid_because:
            console.print(f"! {level.load}: {doubt}", highlight=False)
        lengths = [n for n in ("input_tokens_mean", "output_tokens_mean") if n in figures.reasons]
        for name in lengths:
            got = shown(figures.metrics[name], 1)
            console.print(f"{level.load}: {name} {got}: {figures.reasons[name]}", highlight=False)
        for line in level.records.errors[1:4]:
            console.print(f"{level.load}: {line}", highlight=False, markup=False)


def as_json(report: LoadReport, stats: Sequence[LevelStats]) -> str:
    levels = [
        {
            "load": level.load,
            "metrics": figures.metrics,
            "reasons": figures.reasons,
            "invalid_because": figures.invalid_because,
            "errors": level.records.errors[1:],
        }
        for level, figures in zip(report.levels, stats, strict=True)
    ]
    return json.dumps({"levels": levels}, indent=2)


def load(args: argparse.Namespace, what: Workload, console: Console) -> LoadReport:
    target = Target.parse(args.url, args.api_key)
    model = args.model or first_model(target)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=args.json) as bars:
        bar = bars.add_task(f"{model}: connecting", total=None)

        def moved(now: reports.Progress) -> None:
            text = f"{now.load} ({now.level + 1} of {now.levels}) {now.phase} {now.completed} done"
            bars.update(bar, description=text, completed=now.elapsed_s, total=now.expected_s)

        return runner.run(
            args.url,
            model,
            what,
            vocabulary=args.vocabulary,
            api_key=args.api_key,
            on_progress=moved,
        )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    console, complaints = Console(), Console(stderr=True, highlight=False, markup=False)
    try:
        report = load(args, workload(args), console)
    except (ValueError, BadTarget) as error:
        complaints.print(complaint(error) if isinstance(error, ValueError) else str(error))
        return 2
    except LoadError as error:
        complaints.print(str(error), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        complaints.print("interrupted")
        return 130
    stats = [summarize(level) for level in report.levels]
    if args.json:
        sys.stdout.write(as_json(report, stats) + "\n")
    else:
        print_table(console, report, stats)
    if args.parquet:
        anchor = {"perf_ns": str(report.clock.perf_ns), "epoch_ns": str(report.clock.epoch_ns)}
        args.parquet.write_bytes(
            to_parquet_bytes(concat([v.records for v in report.levels]), anchor)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
