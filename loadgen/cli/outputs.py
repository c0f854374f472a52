"""Where the results of a load go: the table, the JSON and the Parquet file; judged before the load."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from loadgen.cli import console as output
from loadgen.cli.args import goodput_limits
from loadgen.cli.vllm_export import levels_metadata
from loadgen.results.records import concat, to_parquet_bytes
from loadgen.results.report import LoadReport
from loadgen.results.stats import summarize


def json_to_stdout(args: argparse.Namespace) -> bool:
    """Whether stdout is for JSON, and nothing else."""
    return args.json is not None and str(args.json) == "-"


def check_outputs(args: argparse.Namespace) -> None:
    """Raises ValueError where a file that the results go to can't be written."""
    if args.json is not None and args.json == args.parquet:
        raise ValueError(f"--json and --parquet name the same file: {args.json}")
    if args.json is not None and not json_to_stdout(args):
        _check("--json", args.json)
    if args.parquet is not None:
        _check("--parquet", args.parquet)


def _check(option: str, path: Path) -> None:
    if "\0" in str(path):
        raise ValueError(f"{option}: a path has no NUL")
    try:
        there = path.exists()
        if path.is_dir():
            raise ValueError(f"{option}: {path} is a directory: name a file")
        if not path.parent.is_dir():
            raise ValueError(f"{option}: there is no folder {path.parent}")
    except OSError as error:
        raise ValueError(f"{option}: {path}: {(error.strerror or '').lower()}") from error
    if not os.access(path if there else path.parent, os.W_OK):
        raise ValueError(f"{option}: {path} can't be written")


def write(
    args: argparse.Namespace, model: str, report: LoadReport, console: Console
) -> Iterator[str]:
    """Prints the table and writes the files. A line for each that could not be written; the others are."""
    stats = [summarize(level) for level in report.levels]
    limits = goodput_limits(args)
    if not json_to_stdout(args):
        output.print_report(console, report, stats, limits)

    def write_json() -> None:
        text = output.as_json(report, stats, model, args.url, limits) + "\n"
        if json_to_stdout(args):
            sys.stdout.write(text)
        else:
            args.json.write_text(text)

    def write_parquet() -> None:
        about = levels_metadata(report, model, args.url)
        table = concat([level.records for level in report.levels])
        args.parquet.write_bytes(to_parquet_bytes(table, about))

    writers: dict[str, Callable[[], None]] = {"json": write_json, "parquet": write_parquet}
    for option, writer in writers.items():
        path = getattr(args, option)
        if path is None:
            continue
        try:
            writer()
        except BrokenPipeError:
            raise
        except OSError as error:
            yield f"--{option}: {path}: {(error.strerror or str(error)).lower()}"
