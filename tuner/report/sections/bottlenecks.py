"""The section of what limits load levels, by the metrics of their engines."""

from collections.abc import Iterable

from rich.console import Console

from tuner.report.console import say, show, table, words
from tuner.report.points import trial_name
from tuner.results.ledger import Finished
from tuner.trial.bottleneck import explained
from tuner.trial.result import Completed, OperatingPoint

LISTED = 50  # levels


def show_bottlenecks(shown: Iterable[tuple[Finished, OperatingPoint]], console: Console) -> None:
    """A sentence for each of these levels that its engine's metrics explain; nothing if there is none."""
    sentences: dict[int, dict[int, str]] = {}
    rows = []
    for entry, point in shown:
        if not isinstance(entry.result, Completed):
            continue
        if entry.number not in sentences:
            sentences[entry.number] = explained(entry.result.config, entry.result.points)
        if sentence := sentences[entry.number].get(point.level):
            rows.append([trial_name(entry), entry.engine, point.load, sentence])
    if not rows:
        return
    columns = (
        "trial",
        words("engine"),
        words("load"),
        words("by the engine's metrics", wraps=True),
    )
    show(
        console, table("What limits these levels", columns, rows[:LISTED]), gap=len(rows) <= LISTED
    )
    if len(rows) > LISTED:
        say(console, f"and {len(rows) - LISTED} more: hover in the plot\n")
