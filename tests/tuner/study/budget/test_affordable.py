"""What a budget buys, against sums by hand."""

import io

import pytest
from rich.console import Console

from tests.tuner.samples.landscape import landscape
from tuner.config.groups.search import Budget, ConfirmConfig, SearchConfig
from tuner.report.plan import show_plan
from tuner.study.budget import affordable, confirmation_starts
from tuner.study.capacity import Capacity
from tuner.study.estimate import affordable_trials, confirmation_cost, known_trials

CHEAP, DEAR = [3600.0] * 10, [7200.0] * 10  # device-seconds of each trial


@pytest.mark.parametrize(
    ("budget", "trials", "binding"),
    [
        ({}, (10, 10), ("trials", "trials")),
        ({"device_hours": 12}, (6, 10), ("device_hours", "trials")),
        ({"device_hours": 5}, (2, 5), ("device_hours", "device_hours")),
        ({"usd": 10}, (1, 3), ("usd", "usd")),  # $3 a device-hour
        ({"wall_h": 3}, (2, 6), ("wall_h", "wall_h")),  # two at a time
        ({"device_hours": 8, "wall_h": 1}, (1, 2), ("wall_h", "wall_h")),
        ({"device_hours": 0.1}, (1, 1), ("device_hours", "device_hours")),
    ],
)
def test_trials_that_fit(
    budget: dict[str, float], trials: tuple[int, int], binding: tuple[str, str]
) -> None:
    times = (lambda n: 3600.0 * -(-n // 2), lambda n: 7200.0 * -(-n // 2))
    found = affordable(Budget(**budget), (CHEAP, DEAR), times, 3.0)
    assert found.trials == trials
    assert found.binding == binding


def test_dollars_without_a_price_limit_nothing() -> None:
    times = (lambda n: 1.0, lambda n: 1.0)
    assert affordable(Budget(usd=1), (CHEAP, DEAR), times, None).trials == (10, 10)


def test_confirming_takes_so_many_starts() -> None:
    assert confirmation_starts(0, (3, 16), 3, 2, 40) == (0, 0)
    assert confirmation_starts(2, (3, 16), 3, 2, 40) == (6, (6 + 2) * 16)
    assert confirmation_starts(2, (3, 16), 3, 1, 4) == (6, (4 + 1) * 16)


def test_the_plan_tells_what_the_budget_buys_and_what_confirming_takes() -> None:
    search = SearchConfig(
        kind="random",
        trials=10,
        budget=Budget(device_hours=0.2),
        confirm=ConfirmConfig(candidates=2, repeats_min=3, repeats_max=5),
    )
    config, out = landscape(search), io.StringIO()
    known, one = known_trials(config), Capacity(((0, 2),))
    # A trial: 3 s of overhead, 3 s of start, four levels of 2 + 10 to 2 + 60 s, of 720 s.
    assert affordable_trials(config, one, known).trials == (720 // 254, 10)
    starts, hours = confirmation_cost(config, known)
    assert starts == (6, (2 * 2 + 1) * 5)
    assert hours == pytest.approx((6 * (6 + 12) / 3600, 25 * 254 / 3600))
    show_plan(config, Console(file=out, width=200))
    assert "budget: enough for 2 to 10 of 10 trials" in out.getvalue()
    assert "search.budget.device_hours (0.2) or search.trials (10)" in out.getvalue()
    assert "in addition, to re-measure the best: 6 to 25 engine starts" in out.getvalue()
