"""The report names what limits the levels that it shows, and says nothing where nothing is known."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.tuner.samples.study import POINTS, sample_config, sample_result, sample_study
from tuner.config.resolve import trial_config
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger
from tuner.trial.result import Completed, Measured

CONFIG = sample_config()


def report(folder: Path) -> str:
    out = io.StringIO()
    show_report(folder, CONFIG, Console(file=out, width=200))
    return out.getvalue()


def limited(number: int) -> Completed:
    """The cache is full at each level but the first."""
    result = sample_result(trial_config(CONFIG, POINTS[number]), number)
    assert isinstance(result, Completed)
    points = tuple(
        replace(
            p,
            metrics={
                **p.metrics,
                "engine_preemptions": 31.0 * bool(p.level),
                "requests_completed": 100.0,
            },
        )
        for p in result.points
    )
    return replace(result, points=points)


def test_every_level_of_the_only_trial_is_explained(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(3, POINTS[3], Measured(limited(3), {}))
    text = report(tmp_path)
    section = text[text.index("What limits these levels") : text.index("Configurations on")]
    lines = [line.split("closed ")[1] for line in section.splitlines() if "closed" in line]
    assert [" ".join(line.split()) for line in lines] == [
        "2 KV cache full from 2 users on: 31 preemptions",
        "4 KV cache full: 31 preemptions",
        "8 KV cache full: 31 preemptions",
    ]


def test_of_several_trials_those_on_the_front_are_explained(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for number in (2, 6):
            ledger.finished(number, POINTS[number], Measured(limited(number), {}))
    text = report(tmp_path)
    section = text[text.index("What limits these levels") : text.index("Configurations on")]
    front = text[text.index("Pareto front") : text.index("What limits these levels")]
    loads = [line.split("closed ")[1].split()[0] for line in front.splitlines() if "closed" in line]
    named = [
        line.split("closed ")[1].split()[0] for line in section.splitlines() if "closed" in line
    ]
    assert named
    assert named == [load for load in loads if load != "1"]


def test_a_study_without_these_metrics_has_no_such_section(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    assert "What limits these levels" not in report(tmp_path)
