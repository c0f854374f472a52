"""`make bench-caps`: the front of speed and throughput, and its joules, at five power caps, on the twin.

One study of `wattfront simulate` on the virtual clock: three frameworks, four sizes of replica, five caps.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.benchmarks.tables import put, table
from tuner.cli.parser import main as wattfront
from tuner.config.groups.objective import Axis, ObjectiveConfig
from tuner.config.load import load_saved
from tuner.config.study import StudyConfig
from tuner.report.plots.style import INK, MUTED, frame, png
from tuner.results.ledger import Finished, results
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.result import Completed

CAPS = (500, 650, 800, 950, 1100)
TENSOR = (1, 2, 4, 8)
SPEED, RATE, JOULES = (
    "interactivity_tok_s_user",
    "throughput_output_tok_s_device",
    "energy_j_per_output_tok",
)
FRONTS = (
    (Axis(metric=RATE), "output tok/s per GPU"),
    (Axis(metric=JOULES, direction="min"), "J of GPU boards per output token"),
)
Trials = dict[int, list[Completed]]


def study(folder: Path) -> tuple[StudyConfig, Trials]:
    """Runs it. Trials by their cap in watts."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = wattfront(
            [
                "simulate",
                "experiment=b300_energy",
                "search.confirm.candidates=0",
                "tracking=none",
                "search.default_first=false",
                f"space.parameters.power.limit_w.choices={list(CAPS)}",
                f"space.parameters.topology.tensor_parallel.choices={list(TENSOR)}",
                f"search.trials={3 * len(CAPS) * len(TENSOR)}",
                f"output_dir={folder}",
            ]
        )
    if code:
        raise SystemExit(f"the study ended with {code}")
    (made,) = folder.iterdir()
    return load_saved(made), by_cap(results(made))


def by_cap(entries: Sequence[Finished]) -> Trials:
    found: Trials = {cap: [] for cap in CAPS}
    for entry in entries:
        if isinstance(entry.result, Completed):
            found[int(entry.result.config.power.limit_w or 0)].append(entry.result)
    return found


def picture(config: StudyConfig, trials: Trials) -> bytes:
    """Left tokens, right joules, both over the speed of each user; a front for each cap."""
    figure = Figure(figsize=(12, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (axis, label) in zip(figure.subplots(1, 2), FRONTS, strict=True):
        for i, cap in enumerate(CAPS):
            colour = (0.1 + 0.75 * i / (len(CAPS) - 1), 0.25, 0.85 - 0.7 * i / (len(CAPS) - 1))
            front = pareto_set(trials[cap], (Axis(metric=SPEED), axis))
            x, y = zip(*sorted(each.values for each in front), strict=True)
            panel.step(x, y, where="pre", color=colour, linewidth=1.8, label=f"{cap:,} W")
            panel.scatter(x, y, color=[colour], s=12, zorder=3)
        frame(panel)
        panel.set_xlabel("tok/s per user", color=INK)
        panel.set_ylabel(label, color=INK)
        panel.set_yscale("log")
        panel.legend(frameon=False, title="cap per GPU")
    title = f"{config.model.name} on {config.hardware.name}: the front at five power caps"
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)
    figure.text(
        0.99, 0.975, "MODELLED by an emulator, not measured", ha="right", fontsize=9, color=MUTED
    )
    return png(figure)


def cap_table(config: StudyConfig, trials: Trials) -> str:
    """By cap and tier: most tokens, fewest joules, each by the configuration that is best at it."""
    tokens, joules = ObjectiveConfig(), ObjectiveConfig(metric=JOULES, direction="min")
    titles = ["cap per GPU"]
    for tier in config.slo.tiers:
        titles += [f"{tier}: tok/s/GPU", "J/token"]
    lines = []
    for cap, found in trials.items():
        fast, frugal = (best_per_tier(config.slo, each, found) for each in (tokens, joules))
        cells = [f"{cap:,} W"]
        for tier in config.slo.tiers:
            cells += [said(fast[tier], ",.0f"), said(frugal[tier], ".3f")]
        lines.append(cells)
    return table(titles, lines)


def said(best: object, form: str) -> str:
    return format(best.value, form) if isinstance(best, Winner) else "–"


def section(config: StudyConfig, trials: Trials) -> str:
    count = sum(map(len, trials.values()))
    return f"""The best of each tier at each cap: most output tokens per second and GPU, and fewest
joules of the boards per output token, each by the configuration that is best at it. {count}
configurations, modelled (`make bench-caps`):

{cap_table(config, trials)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page with the table")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        config, trials = study(Path(folder))
    text = section(config, trials)
    print(text)  # noqa: T201
    if args.picture:
        args.picture.write_bytes(picture(config, trials))
    if args.write:
        put(text, args.write, "caps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
