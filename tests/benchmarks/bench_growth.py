"""`make bench-growth`: what a report, a suggestion, a ledger and a crowded cluster cost as trials grow.

Results are invented. Each figure is of a process of its own; CPU seconds, as other work on the machine hardly
changes them.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from tests.benchmarks import growth_ledger
from tests.benchmarks.tables import put, table
from tests.tuner.samples.made import OTHER, distinct, made_measured, made_study
from tests.tuner.samples.virtual_cluster import NODE_GPUS, run, whole_nodes
from tuner.report.summary import show_report
from tuner.results.ledger import LEDGER
from tuner.search.factory import SearchSetup
from tuner.search.outcome import outcome_of

MARK = "bench-growth"
REPORTS = (125, 250, 500, 2_000, 20_000)
SUGGESTIONS = (60, 220, 500, 2_000, 20_000)
LEDGERS = (500, 2_000, 20_000)
CROWDS = ((256, 1_024),)  # nodes, trials
MAKE = """
import sys
from pathlib import Path
from tests.tuner.samples.made import made_ledger, made_study

trials = int(sys.argv[2])
made_ledger(Path(sys.argv[1]), made_study(trials), trials)
"""
SUGGESTED = 4  # from one that fits the hyperparameters on


def report(trials: int) -> dict[str, Any]:
    """Of a finished study: reading its ledger, all tables and pictures."""
    study = made_study(trials)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        # In a process of its own, whose memory does not count.
        subprocess.run([sys.executable, "-c", MAKE, kept, str(trials)], check=True)
        began_s, cpu_s = time.monotonic(), time.process_time()
        show_report(folder, study, Console(file=io.StringIO(), width=100))
        took = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.monotonic() - began_s}
        return {**took, "ledger_kb": (folder / LEDGER).stat().st_size / 1000 / trials}


def suggestion(trials: int) -> dict[str, Any]:
    """Of `search=curve` after so many trials; the mean over some, one of which fits hyperparameters."""
    study = made_study(trials + 2 * SUGGESTED)
    sampler = SearchSetup(study).sampler()
    assert sampler is not None
    for proposal in distinct(made_study(trials, OTHER), trials):
        outcome = outcome_of(study, made_measured(proposal).result)
        sampler.learn(proposal.point, None, outcome)
    sampler.suggest([])  # loads what is loaded once, and draws the first sample
    walls_s, cpus_s = list[float](), list[float]()
    for proposal in distinct(made_study(SUGGESTED), SUGGESTED):
        began_s, cpu_s = time.monotonic(), time.process_time()
        sampler.suggest([])
        cpus_s.append(time.process_time() - cpu_s)
        walls_s.append(time.monotonic() - began_s)
        outcome = outcome_of(study, made_measured(proposal).result)
        sampler.learn(proposal.point, None, outcome)
    return {"cpu_s": mean(cpus_s), "most_s": max(cpus_s), "wall_s": mean(walls_s)}


def crowd(nodes: int, trials: int) -> dict[str, Any]:
    """A cluster of which each trial takes a node, in virtual time that goes on while the study computes."""
    with tempfile.TemporaryDirectory() as folder:
        use = run(whole_nodes(trials), Path(folder), nodes, time.process_time)
    return {
        "at_once": use.at_once,
        "hours": use.seconds / 3600,
        "driver_s": use.driver_s,
        "busy": use.busy,
    }


def ledger(trials: int) -> dict[str, Any]:
    """Its lines, the resume of its study, and MLflow catching up with it; wall time."""
    return {"rows": [(row.what, row.value, row.unit) for row in growth_ledger.rows(trials)]}


MEASURED = {"report": report, "suggestion": suggestion, "ledger": ledger, "crowd": crowd}


def measured(kind: str, *of: int) -> dict[str, Any]:
    """In a process of its own, with its peak of memory."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_growth", "--one", kind, *map(str, of)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(kind, *of, found, file=sys.stderr, flush=True)  # noqa: T201
    return found


def document(most: int) -> str:
    reports = [(n, measured("report", n)) for n in REPORTS if n <= most]
    suggestions = [(n, measured("suggestion", n)) for n in SUGGESTIONS if n <= most]
    ledgers = [(n, measured("ledger", n)["rows"]) for n in LEDGERS if n <= most]
    crowds = [(each, measured("crowd", *each)) for each in CROWDS if each[1] <= most]
    parts = [
        f"*{os.cpu_count()} cores; invented results of seven load levels; CPU seconds.*",
        table(
            ["trials", "report, CPU s", "memory MB", "ledger kB a trial"],
            [
                [f"{n:,}", f"{r['cpu_s']:.1f}", f"{r['mb']:.0f}", f"{r['ledger_kb']:.1f}"]
                for n, r in reports
            ],
        ),
        table(
            ["trials", "suggestion of search=curve, CPU s", "the longest", "memory MB"],
            [
                [f"{n:,}", f"{r['cpu_s']:.2f}", f"{r['most_s']:.2f}", f"{r['mb']:.0f}"]
                for n, r in suggestions
            ],
        ),
        table(
            ["a study, wall time", *(f"{n:,} trials" for n, _ in ledgers)],
            [
                [f"{what}, {unit}", *(f"{rows[i][1]:.3g}" for _, rows in ledgers)]
                for i, (what, _, unit) in enumerate(ledgers[0][1] if ledgers else [])
            ],
        ),
        table(
            ["GPUs", "trials", "at once", "virtual hours", "study's CPU s", "GPUs busy"],
            [
                [
                    f"{nodes * NODE_GPUS:,}", f"{trials:,}", str(r["at_once"]),
                    f"{r['hours']:.2f}", f"{r['driver_s']:.0f}", f"{r['busy']:.2%}",
                ]
                for (nodes, trials), r in crowds
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the tables, as Markdown")
    parser.add_argument("--most", type=int, default=20_000, help="trials")
    parser.add_argument("--one", nargs="+", metavar="KIND N", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        kind, *of = args.one
        found = MEASURED[kind](*map(int, of))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "mb": peak}))  # noqa: T201
        return 0
    text = document(args.most)
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, MARK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
