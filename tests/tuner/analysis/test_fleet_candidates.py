"""Which points of a study can serve a fleet, and what the day earns at other prices."""

from pathlib import Path

import pytest

from tests.tuner.samples.study import sample_config, sample_study
from tuner.analysis.fleet import plan
from tuner.analysis.fleet_alternatives import alternatives, at_price_ends
from tuner.analysis.fleet_candidates import NoCandidate, fleet_candidates
from tuner.config.groups.fleet import Demand, FleetConfig
from tuner.config.groups.hardware import Estimate
from tuner.results.ledger import results
from tuner.results.tiers import in_tier

CONFIG = sample_config()


def between(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, source="invented", date="2026-11-01")


FLEET = FleetConfig(
    name="a day",
    megawatts=0.001,
    devices=20,
    power_usd_per_kwh=between(0.1, 0.05, 0.2),
    demand={
        "bulk": Demand(
            peak_output_tok_s=2000,
            share_by_hour=(1.0,),
            usd_per_m_output_tok=between(1.0, 0.5, 2.0),
        )
    },
)


def test_every_valid_point_inside_a_tier_is_a_candidate(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    entries = results(tmp_path)
    found = fleet_candidates(FLEET, CONFIG, entries)
    inside = [
        (entry.number, point.metrics["throughput_output_tok_s"])
        for entry in entries
        if entry.result.status == "completed"
        for point in entry.result.points
        if point.valid and in_tier(CONFIG.slo.tiers["bulk"], point)
    ]
    assert [(each.trial, each.output_tok_s) for each in found] == inside
    assert {each.tier for each in found} == {"bulk"}
    watts = CONFIG.hardware.kw_per_device
    assert watts is not None
    assert all(each.watts == pytest.approx(1000 * watts.value * each.devices) for each in found)


def test_without_power_there_is_no_candidate(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    facility = FLEET.model_copy(update={"boundary": "facility"})
    with pytest.raises(NoCandidate, match="facility power is unavailable: economics states no"):
        fleet_candidates(facility, CONFIG, results(tmp_path))
    with pytest.raises(NoCandidate, match="serve bulk: no point meets the SLO"):
        fleet_candidates(FLEET, CONFIG, [])


def test_alternatives_bracket_the_plan(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    found = fleet_candidates(FLEET, CONFIG, results(tmp_path))
    others, stated = alternatives(FLEET, found), plan(FLEET, found).usd_day
    assert others.low_usd_day < stated < others.high_usd_day
    assert others.single.usd_day <= stated * (1 + 1e-9)
    assert others.single_trial in {each.trial for each in found}


def test_electricity_is_dear_where_tokens_are_cheap() -> None:
    low, high = (at_price_ends(FLEET, end) for end in (0, 1))
    tokens = [each.demand["bulk"].usd_per_m_output_tok.value for each in (low, high)]
    assert (tokens, low.power_usd_per_kwh.value, high.power_usd_per_kwh.value) == (
        [0.5, 2.0],
        0.2,
        0.05,
    )
