"""Budgets and the rule that ends a search: the arithmetic, and whole studies that end, and go on, by it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.samples.landscape import WALL_S, landscape, measured, result_of
from tuner.config.errors import ConfigError
from tuner.config.groups.search import Budget, SearchConfig, StopRule
from tuner.config.load import load
from tuner.config.study import StudyConfig
from tuner.results.ledger import Entry, Finished, Ledger, read, why_ended
from tuner.search import Proposal
from tuner.study.learning.budget import Spent, exhausted, spent, trial_hours
from tuner.study.study import Study

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
CONFIG = landscape(SearchConfig(kind="random", trials=20))


def done(number: int, end_s: float) -> Finished:
    result, ended = result_of(CONFIG, {}), BEGAN + timedelta(seconds=end_s)
    return Finished(number, {}, "f", result, Path(), ended)


def test_hours_are_those_of_devices_and_the_wall_counts_once() -> None:
    """Two trials of 360 s, one after the other with a pause; a third beside the second."""
    took = spent([done(0, 360), done(1, 1000), done(2, 1100)], 2.0)
    assert took.trials == 3
    assert took.device_hours == pytest.approx(3 * WALL_S / 3600)
    assert took.usd == pytest.approx(0.6)
    assert took.wall_s == pytest.approx(360 + 460)
    assert spent([]) == Spent(0, 0.0, None, 0.0)
    asked = Entry(3, {}, "f", None, Path(), BEGAN)
    assert spent([done(0, 360), asked]).trials == 1


@pytest.mark.parametrize(
    ("budget", "spent_so_far", "running", "why"),
    [
        ({}, (5, 5.0, 10.0, 3600), 0, ""),
        ({"device_hours": 6}, (5, 5.0, 10.0, 3600), 0, ""),
        ({"device_hours": 5.9}, (5, 5.0, 10.0, 3600), 0, "5.00 of 5.9 device-hours"),
        ({"device_hours": 7}, (5, 5.0, 10.0, 3600), 1, ""),
        ({"device_hours": 7}, (5, 5.0, 10.0, 3600), 2, "2 running"),
        ({"usd": 11}, (5, 5.0, 10.0, 3600), 0, "10.0 of 11 $"),
        ({"wall_h": 1.1}, (5, 5.0, 10.0, 3600), 0, "1.00 of 1.1 wall hours"),
        ({"wall_h": 1.3}, (5, 5.0, 10.0, 3600), 3, ""),
        ({"device_hours": 0.1}, (0, 0.0, 0.0, 0), 2, ""),
        ({}, (18, 1.0, 1.0, 1), 2, "all 20 trials"),
    ],
)
def test_the_next_trial_must_fit(
    budget: dict[str, float], spent_so_far: tuple[Any, ...], running: int, why: str
) -> None:
    said = exhausted(Budget(**budget), Spent(*spent_so_far), 20, running)
    assert why in said
    assert bool(said) == bool(why)


def test_hours_of_a_trial_follow_the_mean_of_completed_ones() -> None:
    assert trial_hours(3600, 8) == 8.0
    assert trial_hours(None, 8) is None


def test_what_can_not_be_kept_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.budget\.usd: hardware \S+ has no price"):
        load(["experiment=laptop", "+search.budget.usd=5", "hardware.usd_per_device_hour=null"])
    with pytest.raises(
        ConfigError, match=r"search\.stop: tpe does not predict what the next trial gains"
    ):
        load(["experiment=laptop", "+search.stop.gain=0.01"])


@dataclass
class Watched:
    """An observer that keeps what it hears."""

    said: list[str]

    def started(self, proposal: Proposal) -> None: ...

    def finished(self, proposal: Proposal, result: object, folder: Path) -> None: ...

    def retried(self, proposal: Proposal, result: object, attempt: int) -> None: ...

    def closing(self) -> None: ...

    def ended(self, why: str) -> None:
        self.said.append(why)


def play(
    folder: Path, config: StudyConfig, at_once: int = 1, most: int = 99
) -> tuple[list[Proposal], list[str]]:
    asked, running, heard = list[Proposal](), list[Proposal](), Watched([])
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [heard])
        while len(asked) < most or running:
            while len(running) < at_once and len(asked) < most and (proposal := study.ask()):
                asked.append(proposal)
                running.append(proposal)
            if not running:
                assert study.remaining() == 0
                break
            ended = running.pop(0)
            study.finished(ended.number, measured(config, ended))
    return asked, heard.said


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_study_keeps_its_budget(tmp_path: Path, at_once: int) -> None:
    """0.1 device-hours a trial: seven fit into 0.75."""
    search = SearchConfig(kind="random", trials=20, budget=Budget(device_hours=0.75))
    asked, said = play(tmp_path, landscape(search), at_once)
    assert len(asked) == 7
    assert said == ["budget: 0.700 of 0.75 device-hours are spent, and a trial takes 0.10"]
    assert play(tmp_path, landscape(search))[0] == []  # resumed: still spent
    more = landscape(search.model_copy(update={"budget": Budget(device_hours=0.95)}))
    assert len(play(tmp_path, more)[0]) == 2


CURVE = SearchConfig(
    kind="curve", trials=24, startup_trials=5, stop=StopRule(gain=0.03, patience=2), seed=1
)


def test_a_search_ends_when_nothing_more_is_expected(tmp_path: Path) -> None:
    config = landscape(CURVE)
    asked, said = play(tmp_path, config)
    assert 5 < len(asked) < 24
    assert len(said) == 1
    assert said[0].startswith(f"stopped after {len(asked)} of 24 trials: the next trial is")
    assert said[0].endswith("(search.stop.gain 3.00%)")
    assert why_ended(tmp_path) == said[0]
    assert {entry.number for entry in read(tmp_path)} == set(range(len(asked)))
    again, _ = play(tmp_path, config)
    assert again == []
    off = landscape(CURVE.model_copy(update={"stop": StopRule()}))
    assert len(play(tmp_path, off, most=2)[0]) == 2  # who takes the rule away goes on


def test_resumed_anywhere_it_tries_the_same_and_ends_in_the_same_place(tmp_path: Path) -> None:
    config = landscape(CURVE)
    whole, said = play(tmp_path / "whole", config)
    first, _ = play(tmp_path / "cut", config, most=len(whole) - 1)
    rest, reported = play(tmp_path / "cut", config)
    assert [p.point for p in [*first, *rest]] == [p.point for p in whole]
    assert reported == said
