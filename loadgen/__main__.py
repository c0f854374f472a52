"""`python -m loadgen URL`: measures one endpoint and prints the results."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadgen.cli import args as cli
from loadgen.cli import console as output
from loadgen.cli.outputs import check_outputs, json_to_stdout, write
from loadgen.cli.served_models import CertificateRefused, served_models
from loadgen.clock import ClockAnchor
from loadgen.control.runner import run, salted
from loadgen.errors import BadTarget, EndpointErrors, EndpointUnreachable, LoadError
from loadgen.http.protocol import Target
from loadgen.http.request_encoder import secret_headers
from loadgen.prompts.build import judged
from loadgen.results import report as reports
from loadgen.results.report import Level, LoadReport
from loadgen.worker.group import forked_links
from loadgen.workload.workload import Workload, lockstep

_NICE = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def first_model(target: Target, headers: Mapping[str, str] | None = None) -> str:
    """The first model that the endpoint lists. Raises EndpointUnreachable or EndpointErrors."""
    try:
        return served_models(target, headers)[0].name
    except CertificateRefused as error:
        raise EndpointUnreachable(f"{error} (SSL_CERT_FILE, --insecure)") from None
    except EndpointErrors as error:
        if error.status in (401, 403):
            raise EndpointErrors(
                f"{error.line} (OPENAI_API_KEY, --api-key)", error.status
            ) from None
        raise EndpointErrors(f"{error.line}; set one with --model", error.status) from None


def load(
    args: argparse.Namespace, target: Target, workload: Workload, console: Console
) -> tuple[str, LoadReport]:
    """Runs the load with a progress bar; returns the model's name and the report.

    An interrupted load has the levels that were measured; with none it raises KeyboardInterrupt.
    """
    headers = {**workload.request.headers, **secret_headers(workload.request)}
    model = args.model or first_model(target, headers)
    workload = salted(workload)
    interruption, clock = Interruption(), ClockAnchor.take()
    measured: list[Level] = []

    def keep(level: Level) -> str:
        measured.append(level)
        return ""

    links = forked_links(workload.shards)  # before the progress bar starts its thread
    lower_priority()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # The shards need the cores: the bar is drawn four times a second only.
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal or json_to_stdout(args),
        refresh_per_second=4,
    ) as bars:
        bar = bars.add_task(f"{model}: connecting", total=None)

        def show_progress(now: reports.Progress) -> None:
            interruption.loading = True
            text = f"{now.load} ({now.level + 1} of {now.levels}) {now.phase} {now.completed} done"
            bars.update(bar, description=text, completed=now.elapsed_s, total=now.expected_s)

        try:
            with interruption.watched():
                report = run(
                    cli.url(args),
                    model,
                    workload,
                    vocabulary=args.vocabulary,
                    api_key=target.api_key,
                    links=lambda _: links,
                    on_progress=show_progress,
                    stop=lambda: interruption.asked,
                    after_level=keep,
                )
        except KeyboardInterrupt:
            if not measured:
                raise
            salt = workload.prompt_salt or 0
            report = LoadReport(tuple(measured), clock, stopped=True, prompt_salt=salt)
    return model, report


def lower_priority() -> None:
    """This process must not delay the shards, even on the same core."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICE))


class Interruption:
    """The first signal ends the running level; a second one, or one before any load, ends the program."""

    def __init__(self) -> None:
        self.loading = False
        self.asked = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM for the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._handle) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.loading:
            raise KeyboardInterrupt
        self.asked = True


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = cli.parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else output.PIPE_WIDTH)
    errors = Console(stderr=True, highlight=False, markup=False)
    try:
        target, workload = prepared(args, errors)
        model, report = load(args, target, workload, console)
        unwritten = list(write(args, model, report, console))
    except LoadError as error:
        errors.print(printable(str(error)), soft_wrap=True)
        return 2 if isinstance(error, ValueError | BadTarget) else 1
    except (ValueError, OSError) as error:
        errors.print(printable(cli.error_line(error)), soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130
    for line in unwritten:
        errors.print(printable(line), soft_wrap=True)
    if report.stopped:
        errors.print(f"interrupted in level {len(report.levels)}")
        return 130
    if report.failure is not None:
        errors.print(f"ended after {len(report.levels)} levels: {report.failure}", soft_wrap=True)
    return 1 if report.failure is not None or unwritten else 0


def prepared(args: argparse.Namespace, errors: Console) -> tuple[Target, Workload]:
    """All that the arguments name, judged before the load. Raises ValueError, OSError or LoadError."""
    workload = cli.workload(args)
    target = Target.parse(cli.url(args), cli.api_key(args), workload.request)
    cli.goodput_limits(args)
    check_outputs(args)
    lines = judged(workload)
    if why := lockstep(workload):
        lines.append(f"{why}; --range-ratio 0.8 spreads them")
    for line in lines:
        errors.print(printable(line), soft_wrap=True)
    return target, workload


def printable(text: str) -> str:
    """The text in one line: what is no printable character stands as its escape."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


if __name__ == "__main__":
    sys.exit(main())
