"""How many trials a plan says that a budget buys."""

import io
import re

import pytest
from rich.console import Console

from tests.tuner.samples.landscape import landscape
from tuner.config.groups.search import Budget, ConfirmConfig, SearchConfig
from tuner.report.plan import show_plan
from tuner.study.capacity import Capacity
from tuner.study.learning.budget import Spent, exhausted
from tuner.study.planning.draws import Job, StudyPlan, affordable
from tuner.study.planning.estimate import estimate, known_trials, makespan_s, study_plan

ONE = Capacity(((0, 2),))


def plan_with(budget: Budget) -> StudyPlan:
    config = landscape(SearchConfig(kind="random", trials=10, budget=budget))
    return study_plan(config, ONE, known_trials(config), None, {})


@pytest.mark.parametrize(
    ("budget", "trials", "ends"),
    [
        ({}, 10, "trials"),
        ({"device_hours": 12}, 10, "trials"),
        ({"device_hours": 5}, 5, "device_hours"),
        ({"wall_h": 3.5}, 3, "wall_h"),
        ({"device_hours": 4, "wall_h": 2}, 2, "wall_h"),
        ({"device_hours": 0.1}, 1, "device_hours"),
    ],
)
def test_trials_that_fit(budget: dict[str, float], trials: int, ends: str) -> None:
    plan = plan_with(Budget.model_validate(budget))
    jobs = [Job(plan.known[0].topology, 1, 3600.0)] * 10
    assert affordable(plan, jobs, lambda some: makespan_s(ONE, some)) == (trials, ends)
    done = 0
    while not exhausted(plan.budget, Spent(done, float(done), None, 3600.0 * done), 10):
        done += 1
    assert done == trials  # as the study itself decides


def test_the_plan_tells_what_the_budget_buys_and_what_confirming_takes() -> None:
    search = SearchConfig(
        kind="random",
        trials=20,
        budget=Budget(device_hours=0.1),
        confirm=ConfirmConfig(candidates=2, repeats_min=3, repeats_max=5),
    )
    config, out = landscape(search), io.StringIO()
    found = estimate(config, ONE, known_trials(config))
    assert 1 <= found.trials.low < found.trials.high < 20
    assert found.binding == ("device_hours",)
    assert found.starts.high <= (2 * 2 + 1) * 5
    show_plan(config, Console(file=out, width=200))
    assert re.search(r"budget: enough for [\d to]+ of 20 trials", out.getvalue())
    assert "the search ends at search.budget.device_hours (0.1)" in out.getvalue()
    assert "in this, to re-measure the best:" in out.getvalue()
