"""`python -m loadgen URL`: drives one endpoint and prints its figures."""

import argparse
import http.client
import os
import sys
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadgen.cli import args as cli
from loadgen.cli import console as show
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

ASK_TIMEOUT_S = 10.0
_NICE = 10


def first_model(target: Target) -> str:
    """The first that the endpoint lists."""
    where, context = (target.host, target.port), tls(target)
    connection = (
        http.client.HTTPConnection(*where, timeout=ASK_TIMEOUT_S)
        if context is None
        else http.client.HTTPSConnection(*where, timeout=ASK_TIMEOUT_S, context=context)
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
    line = f"HTTP {reply.status} for the list of models: {first_line(body)}; name one by --model"
    raise EndpointErrors(line, reply.status)


def load(args: argparse.Namespace, what: Workload, console: Console) -> tuple[str, LoadReport]:
    url = cli.url(args)
    target = Target.parse(url, cli.api_key(args))
    model = args.model or first_model(target)
    links = forked_links(what.shards)  # before the progress bar starts its thread
    give_way()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Drawn four times a second, on what core is left by those who keep the time.
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal or _silent(args),
        refresh_per_second=4,
    ) as bars:
        bar = bars.add_task(f"{model}: connecting", total=None)

        def moved(now: reports.Progress) -> None:
            text = f"{now.load} ({now.level + 1} of {now.levels}) {now.phase} {now.completed} done"
            bars.update(bar, description=text, completed=now.elapsed_s, total=now.expected_s)

        report = run(
            url,
            model,
            what,
            vocabulary=args.vocabulary,
            api_key=target.api_key,
            links=lambda _: links,
            on_progress=moved,
        )
    return model, report


def give_way() -> None:
    """Who conducts must not take the time of the shards that keep it, be it on the same core."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICE))


def _silent(args: argparse.Namespace) -> bool:
    return args.json is not None and str(args.json) == "-"


def write(args: argparse.Namespace, model: str, report: LoadReport, console: Console) -> None:
    stats = [summarize(level) for level in report.levels]
    limits = {n: v for text in args.goodput for n, v in cli.limits("--goodput", text).items()}
    if args.json is not None:
        text = show.as_json(report, stats, model, args.url, limits)
        if _silent(args):
            sys.stdout.write(text + "\n")
        else:
            args.json.write_text(text + "\n")
    if not _silent(args):
        show.print_table(console, report, stats, limits)
    if args.parquet:
        about = levels_metadata(report, model, args.url)
        table = concat([level.records for level in report.levels])
        args.parquet.write_bytes(to_parquet_bytes(table, about))


def main(argv: Sequence[str] | None = None) -> int:
    args = cli.parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else show.PIPE_WIDTH)
    complaints = Console(stderr=True, highlight=False, markup=False)
    try:
        model, report = load(args, cli.workload(args), console)
        write(args, model, report, console)
    except LoadError as error:
        complaints.print(str(error), soft_wrap=True)
        return 2 if isinstance(error, ValueError) else 1
    except (ValueError, OSError) as error:
        complaints.print(cli.complaint(error), soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        complaints.print("interrupted")
        return 130
    if report.failure is not None:
        complaints.print(f"ended after {len(report.levels)} levels: {report.failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
