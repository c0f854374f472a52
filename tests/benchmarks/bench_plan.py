"""`make bench-plan`: what `wattfront plan` says a study takes, against what it took.

Random studies of emulated B300 nodes run on the virtual clock. Seeds below `CALIBRATED` chose the constants of
`tuner.study.planning`, the others test them. Each study is predicted three times: as it is; by the twin of
another GPU, so that no time is right; and by the size of the model alone. `--studies`: finished studies of this
machine, each predicted without and with the ones beside it.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from serving.twin.config import System
from tests.benchmarks.plan_studies import Took, packed, random_study, simulated
from tests.benchmarks.tables import put, table
from tuner.config.load import load_saved
from tuner.config.resolve import measured_workload
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.report.rough import duration_range
from tuner.results.reader import read
from tuner.search.factory import SearchSetup
from tuner.study.capacity import Capacity
from tuner.study.local_cluster import local_capacity
from tuner.study.planning import estimate as planning
from tuner.study.planning.draws import Shape, StudyPlan
from tuner.study.planning.earlier import factors_of
from tuner.study.planning.estimate import Range, estimate, estimate_of, known_trials
from tuner.study.planning.merit import merit_of
from tuner.study.planning.speed import speed_of

MARK = "bench-plan"
CALIBRATED = 1000  # seeds below it
STUDIES = 40
OTHER_GPU: System = "h200_sxm"
WAYS = ("its own twin", "another GPU's twin", "model size")
WIDTH_MAX = 3.0
TRUTHS = (
    Path(__file__).parent / "plan_truths.json"
)  # of the last run, for a test of the predictions


@dataclass(frozen=True, slots=True)
class Compared:
    """A study: what was predicted in one of the ways, and what it took."""

    name: str
    way: str
    wall_s: Range
    device_hours: Range
    took: Took

    @property
    def inside(self) -> tuple[bool, bool]:
        """Of wall time and device-hours."""
        wall, hours = self.wall_s, self.device_hours
        return (
            wall.low <= self.took.wall_s <= wall.high,
            hours.low <= self.took.device_hours <= hours.high,
        )

    @property
    def widths(self) -> tuple[float, float]:
        """High / low of both."""
        return width(self.wall_s), width(self.device_hours)


def width(drawn: Range) -> float:
    return drawn.high / drawn.low if drawn.low else math.inf


def measured(seed: int) -> Took | None:
    """What a random study took; None for seeds without one, and where every trial fails at once."""
    made = random_study(seed)
    took = simulated(*made[1:]) if made is not None else None
    return took if took is not None and took.wall_s else None


def compared(seed: int, took: Took) -> Iterator[Compared]:
    """The predictions of a random study."""
    made = random_study(seed)
    assert made is not None, "it was measured"
    name, config, capacity = made
    setup = SearchSetup(config)
    plan = planning.study_plan(
        config, capacity, known_trials(config, setup), setup, {}, virtual=True
    )
    for way in WAYS:
        found = estimate_of(mistaken(plan, config, capacity, way, setup), capacity)
        yield Compared(name, way, found.wall_s, found.device_hours, took)


def mistaken(
    plan: StudyPlan, config: StudyConfig, capacity: Capacity, way: str, setup: SearchSetup
) -> StudyPlan:
    """The plan with request times from elsewhere. Starts stay: the twin's own are not a real engine's."""
    if way == WAYS[0]:
        return plan
    trials = [each.config for each in known_trials(config, setup)]
    others = planning.sampled_trials(config, capacity, setup) if plan.others else []
    like = OTHER_GPU if way == WAYS[1] else None
    return replace(
        plan,
        known=[_elsewhere(s, t, config, like) for s, t in zip(plan.known, trials, strict=True)],
        others=[_elsewhere(s, t, config, like) for s, t in zip(plan.others, others, strict=True)],
    )


def _elsewhere(shape: Shape, trial: TrialConfig, config: StudyConfig, like: System | None) -> Shape:
    if shape.speed.fails:
        return shape
    hardware = trial.hardware.model_copy(update={"twin": None, "name": "another"})
    speed = speed_of(trial.model_copy(update={"hardware": hardware}), like)
    known = shape.speed
    speed = replace(speed, start_s=known.start_s, start_deviation=known.start_deviation)
    tiers = {name: tier.limits() for name, tier in config.slo.tiers.items()}
    merit = merit_of(measured_workload(config), speed, trial.devices, tiers)
    return replace(shape, speed=speed, merit=merit)


def of_studies(folders: Sequence[Path]) -> Iterator[Compared]:
    """Finished studies of this machine."""
    for folder in folders:
        config = load_saved(folder)
        setup = SearchSetup(config)
        known = known_trials(config, setup)
        capacity, _ = planning.planned_capacity(config, known, local_capacity(config.cluster))
        took = packed(read(folder), capacity)
        beside = factors_of(config, folder.parent, without=folder)
        for way, factors in (("nothing earlier", {}), ("the studies beside it", beside)):
            found = estimate(config, capacity, known, setup=setup, factors=factors)
            yield Compared(folder.name, way, found.wall_s, found.device_hours, took)


def summary(rows: Sequence[Compared]) -> str:
    """Per way: how many truths lie inside, and how wide the ranges are."""
    lines = []
    for way in dict.fromkeys(row.way for row in rows):
        mine = [row for row in rows if row.way == way]
        inside = [sum(row.inside[i] for row in mine) / len(mine) for i in (0, 1)]
        widths = [[row.widths[i] for row in mine] for i in (0, 1)]
        narrow = sum(max(row.widths) <= WIDTH_MAX for row in mine) / len(mine)
        lines.append([
            way, str(len(mine)), f"{inside[0]:.0%}", f"{inside[1]:.0%}",
            f"{median(widths[0]):.1f}", f"{median(widths[1]):.1f}", f"{narrow:.0%}",
        ])  # fmt: skip
    titles = [
        "request times from", "studies", "time inside", "device-hours inside",
        "high / low of time, median", "of device-hours", "both at most 3",
    ]  # fmt: skip
    return table(titles, lines)


def each_study(rows: Sequence[Compared]) -> str:
    lines = [
        [
            row.name, duration_range(row.wall_s), f"{row.took.wall_s:,.0f} s",
            "yes" if row.inside[0] else "**no**", f"{row.widths[0]:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(["study", "predicted", "took", "inside", "high / low"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the tables, as Markdown")
    parser.add_argument("--first", type=int, default=CALIBRATED, help="first seed")
    parser.add_argument("--count", type=int, default=STUDIES, help="seeds")
    parser.add_argument("--studies", type=Path, nargs="+", metavar="FOLDER", help="finished ones")
    args = parser.parse_args(argv)
    rows, truths = list[Compared](), dict[str, list[float]]()
    if args.studies:
        rows = list(of_studies(args.studies))
    else:
        for seed in range(args.first, args.first + args.count):
            if (took := measured(seed)) is not None:
                truths[str(seed)] = [
                    round(took.wall_s, 1),
                    round(took.device_hours, 4),
                    took.trials,
                ]
                rows += compared(seed, took)
            print(f"seed {seed}: {len(rows)} predictions", file=sys.stderr, flush=True)  # noqa: T201
    first = [row for row in rows if args.studies or row.way == WAYS[0]]
    text = f"{summary(rows)}\n\n{each_study(first)}\n"
    print(text)  # noqa: T201
    if args.write and truths:
        TRUTHS.write_text(json.dumps(truths, indent=1) + "\n")
    if args.write:
        put(text, args.write, MARK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
