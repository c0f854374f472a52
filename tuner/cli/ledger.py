"""The command `wattfront ledger`: checks a study's ledger line by line, and salvages a damaged one."""

import argparse

from rich.console import Console

from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.folders import find_study
from tuner.metrics.notation import counted
from tuner.report.console import say
from tuner.results.check import Checked, check, repair
from tuner.results.ledger import LedgerError

COLOURS = {"torn": "yellow", "wrong": "red", "note": ""}


def ledger(arguments: argparse.Namespace) -> int:
    """Says what is wrong by line; with --repair writes a new ledger of what is right."""
    folder, console = find_study(arguments.study), Console()
    try:
        found = repair(folder) if arguments.repair else check(folder)
    except LedgerError as error:
        raise Missing(str(error)) from error
    for each in found.findings:
        where = f"line {each.line}: " if each.line else ""
        say(console, f"{where}{each.what}", COLOURS[each.kind], whole=True)
    say(console, _summary(found), whole=True)
    if found.kept is not None:
        say(console, f"repaired; the original is {found.kept}", "green", whole=True)
        return ExitCode.DONE
    return ExitCode.MISSING if found.damaged else ExitCode.DONE


def _summary(found: Checked) -> str:
    unreadable = sum(each.kind != "note" for each in found.findings)
    state = f"{counted(unreadable, 'line')} unreadable" if unreadable else "every line can be read"
    trials, results = counted(found.proposed, "trial"), counted(found.results, "result")
    return f"{found.path}: {trials} proposed, {results} of the search; {state}"
