"""`python -m loadgen URL`: measures one endpoint and prints the results."""

import argparse
import http.client
import os
import sys
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadgen.cli import args as cli
from loadgen.cli import console as output
from loadgen.cli.vllm_export import levels_metadata
from loadgen.control.runner import run
from loadgen.errors import EndpointErrors, EndpointUnreachable, LoadError
from loadgen.http.connection_pool import connect_error, tls
from loadgen.http.protocol import Target
from loadgen.http.response_parser import first_line
from loadgen.results import report as reports
from loadgen.results.records import concat, to_parquet_bytes
from loadgen.results.report import LoadReport
from loadgen.results.stats import summarize
from loadgen.worker.group import forked_links
from loadgen.workload.workload import Workload

MODELS_TIMEOUT_S = 10.0
_NICE = 10


def first_model(target: Target) -> str:
    """The first model that the endpoint lists. Raises EndpointUnreachable or EndpointErrors."""
    where, context = (target.host, target.port), tls(target)
    connection = (
        http.client.HTTPConnection(*where, timeout=MODELS_TIMEOUT_S)
        if context is None
        else http.client.HTTPSConnection(*where, timeout=MODELS_TIMEOUT_S, context=context)
    )
    key = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    try:
        connection.request("GET", f"{target.prefix}/models", headers=key)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        why = connect_error(error) if isinstance(error, OSError) else str(error)
        line = f"can't connect to {target.authority}: {why}"
        raise EndpointUnreachable(line) from error
    finally:
        connection.close()
    try:
        if reply.status == 200:
            return str(msgspec.json.decode(body)["data"][0]["id"])
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        pass
    line = f"HTTP {reply.status} for the list of models: {first_line(body)}; set one with --model"
    raise EndpointErrors(line, reply.status)


def load(args: argparse.Namespace, workload: Workload, console: Console) -> tuple[str, LoadReport]:
    """Runs the load with a progress bar; returns the model's name and the report."""
    url = cli.url(args)
    target = Target.parse(url, cli.api_key(args))
    model = args.model or first_model(target)
    links = forked_links(workload.shards)  # before the progress bar starts its thread
    lower_priority()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # The shards need the cores: the bar is drawn four times a second only.
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal or _json_to_stdout(args),
        refresh_per_second=4,
    ) as bars:
        bar = bars.add_task(f"{model}: connecting", total=None)

        def show_progress(now: reports.Progress) -> None:
            text = f"{now.load} ({now.level + 1} of {now.levels}) {now.phase} {now.completed} done"
            bars.update(bar, description=text, completed=now.elapsed_s, total=now.expected_s)

        report = run(
            url,
            model,
            workload,
            vocabulary=args.vocabulary,
            api_key=target.api_key,
            links=lambda _: links,
            on_progress=show_progress,
        )
    return model, report


def lower_priority() -> None:
    """This process must not delay the shards, even on the same core."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICE))


def _json_to_stdout(args: argparse.Namespace) -> bool:
    return args.json is not None and str(args.json) == "-"


def write(args: argparse.Namespace, model: str, report: LoadReport, console: Console) -> None:
    """Prints the table and writes the files that were asked for."""
    stats = [summarize(level) for level in report.levels]
    limits = {n: v for text in args.goodput for n, v in cli.limits("--goodput", text).items()}
    if args.json is not None:
        text = output.as_json(report, stats, model, args.url, limits)
        if _json_to_stdout(args):
            sys.stdout.write(text + "\n")
        else:
            args.json.write_text(text + "\n")
    if not _json_to_stdout(args):
        output.print_report(console, report, stats, limits)
    if args.parquet:
        about = levels_metadata(report, model, args.url)
        table = concat([level.records for level in report.levels])
        args.parquet.write_bytes(to_parquet_bytes(table, about))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = cli.parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else output.PIPE_WIDTH)
    errors = Console(stderr=True, highlight=False, markup=False)
    try:
        model, report = load(args, cli.workload(args), console)
        write(args, model, report, console)
    except LoadError as error:
        errors.print(str(error), soft_wrap=True)
        return 2 if isinstance(error, ValueError) else 1
    except (ValueError, OSError) as error:
        errors.print(cli.error_line(error), soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130
    if report.failure is not None:
        errors.print(f"ended after {len(report.levels)} levels: {report.failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
