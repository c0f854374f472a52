"""Failed trials with what to change, failed attempts by node, and the nodes that are quarantined."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tuner.metrics.notation import counted
from tuner.report.console import say, show, table, words
from tuner.report.points import trial_name
from tuner.results.ledger import Attempt, Entry, Finished
from tuner.search.retries import QUARANTINE_AFTER, Quarantine
from tuner.trial.result import Failed, fault_domain, host_of

LISTED = 50  # failures that are listed one by one


def show_failures(entries: Sequence[Finished], folder: Path, console: Console) -> None:
    """A row per failed trial."""
    failed = [(entry, entry.result) for entry in entries if isinstance(entry.result, Failed)]
    if failed:
        title = f"Failed: {len(failed)} of {counted(len(entries), 'trial')}"
        wide = words("evidence, → remedy, knobs, log", wraps=True)
        columns = "trial", words("engine"), words("failure"), wide
        rows = [_row(entry, result, folder) for entry, result in failed[:LISTED]]
        show(console, table(title, columns, rows), gap=len(failed) <= LISTED)
    if len(failed) > LISTED:
        kinds = Counter(result.failure for _, result in failed[LISTED:]).most_common()
        more = ", ".join(f"{name} ({count})" for name, count in kinds)
        say(console, f"and {len(failed) - LISTED} more, which are in the ledger: {more}\n")


def _row(entry: Finished, result: Failed, folder: Path) -> tuple[str, str, Text, str]:
    log = entry.folder / "engine.log"
    lines = [result.evidence or "no evidence"]
    lines += [f"→ {result.remedy}"] if result.remedy else []
    lines += [entry.knobs]
    lines += [str(log.relative_to(folder))] if log.exists() else []
    failure = Text(result.failure, style="red")
    if result.phase:
        failure.append(f"\n{result.phase}")
    if (domain := fault_domain(result.failure)) != "configuration":
        failure.append(f"\nof the {domain}", style="yellow")
    return trial_name(entry), entry.engine, failure, "\n".join(lines)


def show_attempts(lines: Sequence[Entry], console: Console) -> None:
    """The failures after which a trial ran again, by class and by node: they are no trials."""
    attempts = [line.result for line in lines if isinstance(line, Attempt)]
    if not attempts:
        return
    what = counted(len(attempts), "failed attempt")
    kinds = _kinds([result.failure for result in attempts])
    say(console, f"{what} of machines, after which trials ran again: {kinds}")
    by_host = defaultdict[str, list[str]](list)
    for result in attempts:
        by_host[host_of(result)].append(result.failure)
    for host in sorted(by_host.keys() - {""}):
        say(console, f"  node {host}: {_kinds(by_host[host])}")
    console.print()


def _kinds(failures: Sequence[str]) -> str:
    counts = Counter(failures)
    return ", ".join(f"{failure} {count}" for failure, count in sorted(counts.items()))


def show_quarantined(lines: Sequence[Entry], console: Console) -> None:
    """The nodes on which trials run no more, and why."""
    quarantine = Quarantine()
    for line in lines:
        if line.result is not None:
            quarantine.add(line.result)
    for host, failures in quarantine.nodes.items():
        why = f"it failed {QUARANTINE_AFTER} different configurations in a row"
        say(
            console,
            f"Node {host} is quarantined: {why} ({', '.join(failures)}). Trials run on other nodes while "
            "there are any.\n",
            "bold yellow",
        )
