"""`make bench-twin`: the twin's errors against published runs on B300, B200 and H200.

Each point is simulated as it was measured. A run is scored with host costs fitted to other models only (leave
one model out), and a share of all configurations is in no fit.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path

import numpy as np

from serving.twin.engine.engine import HostCosts
from serving.twin.tables.library import Library
from tests.benchmarks.tables import put
from tests.benchmarks.twin import headline as twin_headline
from tests.benchmarks.twin import power as twin_power
from tests.benchmarks.twin import report as twin_report
from tests.benchmarks.twin.fit import (
    COSTS,
    Floats,
    Recorder,
    Terms,
    as_costs,
    fit,
    terms_of,
)
from tests.benchmarks.twin.points import (
    PUBLISHED,
    Point,
    by_system,
    current,
    published_points,
    sample_file,
    sample_points,
    sampled,
)
from tests.benchmarks.twin.report import Scored
from tests.benchmarks.twin.runs import Outcome, simulate

SHARE = 0.3  # of B200's and H200's points
LONG_OUTPUT = 1024  # tokens; points with longer outputs are sampled in inverse proportion
FIT_AGAIN = 1.0  # share of points that are simulated again with the first fit's costs


@dataclass(frozen=True, slots=True)
class Data:
    """Points to simulate, points of superseded images, and the number of excluded rows by reason."""

    points: list[Point]
    superseded: list[Point]
    left_out: Counter[str]
    sources: tuple[str, ...]


def gather(share: float) -> Data:
    text, source = sample_file()
    points, left_out = sample_points(text)
    published = published_points()
    plain = [point for point in published if not point.config.drafts]
    left_out["with speculative decoding, of unpublished acceptance"] += len(published) - len(plain)
    whole = [point for point in plain if point.ttft_s and point.tpot_s]
    kept, superseded = current([*points, *whole])
    left_out["another run of a configuration that counts already"] += (
        len(points) + len(whole) - len(kept) - len(superseded)
    )
    sources = [source]
    sources.append(
        f"{PUBLISHED.name}: {len(whole)} runs" if published else f"{PUBLISHED.name} is not there"
    )
    drawn = by_system(kept, "b300_sxm")
    for system in ("b200_sxm", "h200_sxm"):
        for point in by_system(kept, system):
            drawn += sampled([point], share * min(1.0, LONG_OUTPUT / point.config.osl))
    return Data(drawn, by_system(superseded, "b300_sxm"), left_out, tuple(sources))


@cache
def library(folder: Path | None) -> Library:
    return Library.with_folder(folder) if folder else Library.shipped()


def simulated(deployment: twin_headline.Deployment, folder: Path | None) -> Outcome:
    return twin_headline.simulate(deployment, library(folder))


def about(tables: Library) -> str:
    """The versions of the tables, and the date."""
    found = sorted({(key.system, key.framework) for key in tables.find()})
    versions = sorted({tables.version(*each) for each in found})
    return f"Tables: {'; '.join(versions)}. {date.today()}.\n"


class DeploymentSimulator:
    """Simulates deployments of the headline, in parallel."""

    def __init__(self, folder: Path | None, processes: int) -> None:
        self._work = partial(simulated, folder=folder)
        self._pool = ProcessPoolExecutor(processes) if processes > 1 else None

    def __call__(self, deployments: Sequence[twin_headline.Deployment]) -> Iterator[Outcome]:
        return (
            self._pool.map(self._work, deployments) if self._pool else map(self._work, deployments)
        )


Task = tuple[Point, HostCosts, bool]


def run(task: Task, folder: Path | None) -> tuple[Outcome, Terms | None]:
    point, costs, recorded = task
    recorders = list[Recorder]()
    outcome, done = simulate(
        point.config,
        library(folder),
        costs,
        watch=(lambda engine: recorders.append(Recorder(engine))) if recorded else None,
    )
    if outcome.reason or not recorders:
        return outcome, None
    return outcome, terms_of(point, recorders[0], done)


class Simulator:
    def __init__(self, folder: Path | None, processes: int) -> None:
        self._folder = folder
        self._pool = ProcessPoolExecutor(processes) if processes > 1 else None
        self.simulations = 0

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[Outcome, Terms | None]]:
        self.simulations += len(tasks)
        work = partial(run, folder=self._folder)
        return self._pool.map(work, tasks, chunksize=4) if self._pool else map(work, tasks)


def costs_of(points: Sequence[Point], terms: dict[int, Terms], framework: str, but: str) -> Floats:
    """Costs fitted to a framework's points of all models but one, held-out ones excluded."""
    chosen = [
        index
        for index in sorted(terms)
        if points[index].config.framework == framework
        and points[index].config.model != but
        and not points[index].config.held_out
    ]
    if not chosen:
        return np.zeros(len(COSTS))
    return fit([points[i] for i in chosen], {n: terms[i] for n, i in enumerate(chosen)})


@dataclass(frozen=True, slots=True)
class Fitted:
    """Costs by framework: fitted to all models, and to all but one."""

    whole: dict[str, Floats]
    without: dict[tuple[str, str], Floats]

    def of(self, point: Point) -> HostCosts:
        return as_costs(self.without[point.config.framework, point.config.model])

    def shipped(self, point: Point) -> HostCosts:
        return as_costs(self.whole[point.config.framework])


def fitted(points: Sequence[Point], first: dict[int, Terms], simulator: Simulator) -> Fitted:
    """Fits twice: to schedules without costs, then to those simulated with the first costs."""
    frameworks = sorted({point.config.framework for point in points})
    guess = {name: as_costs(costs_of(points, first, name, "")) for name in frameworks}
    again = set(map(repr, sampled(points, FIT_AGAIN, "again")))
    chosen = [i for i in first if repr(points[i]) in again and not points[i].config.held_out]
    tasks = [(points[i], guess[points[i].config.framework], True) for i in chosen]
    terms = {i: t for i, (_, t) in zip(chosen, simulator(tasks), strict=True) if t is not None}
    whole = {name: costs_of(points, terms, name, "") for name in frameworks}
    without = {
        (name, model): costs_of(points, terms, name, model)
        for name in frameworks
        for model in {point.config.model for point in points}
    }
    return Fitted(whole, without)


def score(data: Data, simulator: Simulator) -> tuple[list[Scored], Fitted, Counter[str]]:
    points = [*data.points, *data.superseded]
    superseded = set(range(len(data.points), len(points)))
    tasks = [(point, HostCosts(), i not in superseded) for i, point in enumerate(points)]
    before = list(simulator(tasks))
    unpredicted = Counter(outcome.reason for outcome, _ in before if outcome.reason)
    terms = {i: found for i, (_, found) in enumerate(before) if found is not None}
    costs = fitted(points, terms, simulator)
    served = [i for i, (outcome, _) in enumerate(before) if not outcome.reason]
    after = simulator([(points[i], costs.of(points[i]), False) for i in served])
    back = [i for i in served if points[i].config.held_out]
    shipped = simulator([(points[i], costs.shipped(points[i]), False) for i in back])
    whole = dict(zip(back, (outcome for outcome, _ in shipped), strict=True))
    scored = [
        Scored(points[i], before[i][0], later, whole.get(i), superseded=i in superseded)
        for i, (later, _) in zip(served, after, strict=True)
    ]
    return scored, costs, unpredicted


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the tables, as Markdown")
    parser.add_argument("--headline", action="store_true", help="only the disaggregated headline")
    parser.add_argument("--share", type=float, default=SHARE, help="of B200's and H200's points")
    parser.add_argument(
        "--tables", type=Path, metavar="FOLDER", help="tables that override shipped ones"
    )
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(argv)
    begun = time.monotonic()
    tables = library(args.tables)
    if not args.headline:
        data = gather(args.share)
        simulator = Simulator(args.tables, args.processes)
        scored, costs, unpredicted = score(data, simulator)
        power = twin_power.measured(tables)
        text = twin_report.document(scored, costs.whole, costs.without, power)
        text += twin_report.left_out(data.left_out, unpredicted, data.sources)
        text += about(tables)
        minutes = (time.monotonic() - begun) / 60
        print(text, f"\n{simulator.simulations} simulations, {minutes:.1f} minutes")  # noqa: T201
        if args.write:
            put(text, args.write, "bench-twin")
    figure = args.write.parent / "images" / "twin_headline.png" if args.write else None
    text = twin_headline.document(DeploymentSimulator(args.tables, args.processes), figure)
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, "bench-twin-headline")
    return 0


if __name__ == "__main__":
    sys.exit(main())
