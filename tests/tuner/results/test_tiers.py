"""Tiers: which points meet them, which is best, and which is closest where none does."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from loadgen.results.metrics import METRICS
from tests.tuner.samples.points import completed, failed, point
from tuner.config.groups.objective import ObjectiveConfig, Slo, Tier
from tuner.results.tiers import (
    Closest,
    Winner,
    best_per_tier,
    excess,
    from_utility,
    in_tier,
    tier_values,
    utility,
)

OBJECTIVE = ObjectiveConfig(metric="tok_s")
TIER = Tier(ttft_p99_ms=100, tpot_p50_ms=10)
SLO = Slo(tiers={"fast": TIER, "slow": Tier(ttft_p99_ms=1000)})


def test_every_limit_is_on_a_metric_that_exists() -> None:
    assert set(Tier.model_fields) <= {metric.name for metric in METRICS}


def test_shortfall_is_relative() -> None:
    far = point(ttft_p99_ms=150, tpot_p50_ms=40, error_rate=0.25)
    assert excess(TIER, far) == {"ttft_p99_ms": 0.5, "tpot_p50_ms": 3.0, "error_rate": 0.25}
    assert not in_tier(TIER, far)


def test_a_limit_is_still_inside() -> None:
    assert in_tier(TIER, point(ttft_p99_ms=100, tpot_p50_ms=10, error_rate=0.0))


def test_an_unmeasured_figure_meets_no_limit() -> None:
    assert excess(TIER, point(ttft_p99_ms=50, tpot_p50_ms=None, error_rate=0.0)) == {
        "tpot_p50_ms": math.inf
    }
    assert not in_tier(TIER, point(ttft_p99_ms=50, tpot_p50_ms=5))


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0, 1), st.floats(1, 10))
def test_a_wider_tier_holds_all_of_the_narrower(
    ttft: float, tpot: float, errors: float, factor: float
) -> None:
    wider = Tier(ttft_p99_ms=100 * factor, tpot_p50_ms=10 * factor, error_rate=1)
    measured = point(ttft_p99_ms=ttft, tpot_p50_ms=tpot, error_rate=errors)
    assert in_tier(wider, measured) or not in_tier(TIER, measured)
    assert in_tier(TIER, measured) == (ttft <= 100 and tpot <= 10 and errors == 0)


def ladder(*figures: tuple[float, float, float]) -> list:
    return [
        point(i, tok_s=rate, ttft_p99_ms=ttft, tpot_p50_ms=tpot, error_rate=0.0)
        for i, (rate, ttft, tpot) in enumerate(figures)
    ]


def test_tier_values() -> None:
    curve = ladder((50, 20, 5), (80, 90, 9), (120, 400, 20), (130, 4000, 90))
    assert tier_values(SLO, OBJECTIVE, completed(*curve)) == {"fast": 80, "slow": 120}
    assert tier_values(SLO, OBJECTIVE, completed(*curve[2:])) == {"fast": 0, "slow": 120}
    assert tier_values(SLO, OBJECTIVE, failed()) == {"fast": 0, "slow": 0}


def test_invalid_points_win_nothing() -> None:
    late = point(
        tok_s=99, ttft_p99_ms=1, tpot_p50_ms=1, error_rate=0.0, invalid_because=("late client",)
    )
    assert tier_values(SLO, OBJECTIVE, completed(late)) == {"fast": 0, "slow": 0}
    assert best_per_tier(SLO, OBJECTIVE, [completed(late)])["fast"] == Closest()


def test_best_per_tier() -> None:
    one = completed(*ladder((50, 20, 5), (120, 400, 20)))
    two = completed(*ladder((50, 10, 4), (110, 300, 20)))
    best = best_per_tier(SLO, OBJECTIVE, [failed(), one, two])
    fast, slow = best["fast"], best["slow"]
    assert isinstance(fast, Winner)
    assert isinstance(slow, Winner)
    assert (fast.index, fast.point.level, fast.value) == (1, 0, 50)
    assert (slow.index, slow.point.level, slow.value) == (1, 1, 120)


def test_the_closest_of_a_tier_that_can_not_be_met() -> None:
    results = [completed(*ladder((50, 150, 30), (60, 90, 15))), completed(*ladder((70, 130, 9)))]
    closest = best_per_tier(SLO, OBJECTIVE, results)["fast"]
    assert isinstance(closest, Closest)
    assert (closest.index, closest.over) == (1, (("ttft_p99_ms", 130, 100),))
    assert str(closest) == "not met; the closest level is closed 1: ttft_p99_ms 130.0 (limit 100)"
    nothing = best_per_tier(SLO, OBJECTIVE, [failed()])["fast"]
    assert str(nothing) == "not met: there is no valid level"


def test_impossible_objectives() -> None:
    with pytest.raises(ValidationError):
        Slo(tiers={})
    with pytest.raises(ValidationError):
        Tier(ttft_p99_ms=0)
    with pytest.raises(ValidationError):
        ObjectiveConfig(axes=())


LEAST = ObjectiveConfig(metric="j", direction="min")
EARNED = ObjectiveConfig(metric="margin_usd_device_hour")


def judged(level: int, name: str, value: float | None, ttft: float = 50, **more: object) -> Any:
    metrics = {name: value, "ttft_p99_ms": ttft, "tpot_p50_ms": 5, "error_rate": 0.0}
    return point(level, **metrics, **more)


def test_the_fewest_joules_win_and_samplers_see_tokens_a_joule() -> None:
    one = completed(judged(0, "j", 0.5), judged(1, "j", 0.25, ttft=500))
    two = completed(judged(0, "j", 0.4))
    best = best_per_tier(SLO, LEAST, [one, two])
    fast, slow = best["fast"], best["slow"]
    assert isinstance(fast, Winner)
    assert isinstance(slow, Winner)
    assert (fast.index, fast.value) == (1, 0.4)
    assert (slow.index, slow.value) == (0, 0.25)
    assert tier_values(SLO, LEAST, one) == {"fast": 2.0, "slow": 4.0}
    assert tier_values(SLO, LEAST, failed()) == {"fast": 0, "slow": 0}


def test_a_loss_is_better_than_nothing_and_worse_than_a_gain() -> None:
    name = EARNED.metric
    values = [
        tier_values(SLO, EARNED, completed(judged(0, name, usd)))["fast"]
        for usd in (-9e6, -3.0, -0.5, 0.25, 7.0, 9e6)
    ]
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    unmet = tier_values(SLO, EARNED, completed(judged(0, name, 7.0, ttft=1e9)))["fast"]
    assert unmet == 0 < values[0]


@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=2, unique=True))
def test_what_samplers_maximise_orders_as_the_tier_does(values: list[float]) -> None:
    low, high = sorted(values)
    assume(high - low > 1e-9 * high)  # nearer ones are one float to a sum
    for objective, better, worse in (
        (LEAST, low, high),
        (OBJECTIVE, high, low),
        (EARNED, high, low),
    ):
        sold = objective.target
        assert utility(sold, better) > utility(sold, worse) > 0
        assert from_utility(sold, utility(sold, low)) == pytest.approx(low, rel=1e-6, abs=1e-9)
        best = best_per_tier(
            SLO, objective, [completed(judged(0, sold.metric, v)) for v in (worse, better)]
        )["fast"]
        assert isinstance(best, Winner)
        assert best.value == better


def test_a_tier_whose_metric_is_not_known_says_why() -> None:
    unmetered = replace(judged(0, "j", None), reasons={"j": "no power source was metered"})
    best = best_per_tier(SLO, LEAST, [completed(unmetered)])["fast"]
    assert isinstance(best, Closest)
    assert str(best) == (
        "unavailable: j of the points that meet the SLO is not known: no power source was metered"
    )
