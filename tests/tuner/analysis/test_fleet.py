"""The plan against every plan in whole replicas, on days that are small enough to enumerate them."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tuner.metrics.test_derive import estimate
from tuner.analysis.fleet import GAP, Plan, of_one_trial, plan, useful
from tuner.config.groups.fleet import HOURS, Candidate, Demand, FleetConfig

TIERS = {"premium": 4.0, "bulk": 1.0}  # $ per million output tokens


def fleet(
    megawatts: float, devices: int, premium: float, bulk: float, usd_kwh: float = 0.1
) -> FleetConfig:
    asked = {"premium": premium, "bulk": bulk}
    return FleetConfig(
        name="a day",
        megawatts=megawatts,
        devices=devices,
        power_usd_per_kwh=estimate(usd_kwh),
        demand={
            tier: Demand(
                peak_output_tok_s=asked[tier],
                share_by_hour=(1.0,),
                usd_per_m_output_tok=estimate(usd),
            )
            for tier, usd in TIERS.items()
        },
    )


def each(tier: str, trial: int, devices: int, watts: float, rate: float) -> Candidate:
    return Candidate(tier, trial, f"closed {trial}", devices, watts, rate)


def best_by_hand(config: FleetConfig, candidates: list[Candidate]) -> float:
    """Dollars an hour of the best of all plans in whole replicas."""
    most = [config.devices // c.devices for c in candidates]
    best = 0.0
    for counts in product(*(range(n + 1) for n in most)):
        watts = sum(n * c.watts for n, c in zip(counts, candidates, strict=True))
        devices = sum(n * c.devices for n, c in zip(counts, candidates, strict=True))
        if devices > config.devices or watts > config.megawatts * 1e6 + 1e-6:
            continue
        earned = -watts / 1000 * config.power_usd_per_kwh.value
        for tier, demand in config.demand.items():
            made = sum(
                n * c.output_tok_s
                for n, c in zip(counts, candidates, strict=True)
                if c.tier == tier
            )
            earned += min(made, demand.tok_s(0)) * 3600 / 1e6 * TIERS[tier]
        best = max(best, earned)
    return best


CANDIDATES = st.lists(
    st.builds(
        each,
        st.sampled_from(list(TIERS)),
        st.integers(0, 2),
        st.sampled_from([1, 2, 4]),
        st.floats(500, 6000),
        st.floats(200, 5000),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(CANDIDATES, st.integers(1, 8), st.floats(0.001, 0.02), st.floats(0, 1e4), st.floats(0, 1e4))
def test_no_plan_in_whole_replicas_earns_more(
    candidates: list[Candidate], devices: int, megawatts: float, premium: float, bulk: float
) -> None:
    config = fleet(megawatts, devices, premium + 1, bulk + 1)
    made = plan(config, candidates)
    best = best_by_hand(config, candidates)
    hour = made.hours[0]
    assert hour.usd == pytest.approx(best, rel=2 * GAP, abs=1e-6)
    assert hour.usd <= hour.bound_usd * (1 + 1e-9) + 1e-9
    assert_sound(config, made)


def assert_sound(config: FleetConfig, made: Plan) -> None:
    for number, hour in enumerate(made.hours):
        assert hour.devices <= config.devices
        assert hour.megawatts <= config.megawatts * (1 + 1e-9)
        for tier, demand in config.demand.items():
            made_tok_s = sum(
                n * c.output_tok_s
                for n, c in zip(hour.replicas, made.candidates, strict=True)
                if c.tier == tier
            )
            assert hour.served[tier] == pytest.approx(min(made_tok_s, demand.tok_s(number)))
            assert hour.served[tier] + hour.unserved[tier] == pytest.approx(demand.tok_s(number))


def test_by_hand() -> None:
    """10 GPUs: two premium replicas serve their 2,000 tok/s, the other six GPUs make 6,000 of bulk."""
    config = fleet(1.0, 10, premium=2000, bulk=50000, usd_kwh=0)
    made = plan(config, [each("premium", 0, 2, 2000, 1000), each("bulk", 1, 1, 1000, 1000)])
    hour = made.hours[0]
    assert dict(zip((c.tier for c in made.candidates), hour.replicas, strict=True)) == {
        "bulk": 6,
        "premium": 2,
    }
    assert hour.usd == pytest.approx(2000 * 3600 / 1e6 * 4 + 6000 * 3600 / 1e6)
    assert hour.unserved == pytest.approx({"premium": 0, "bulk": 44000})
    assert hour.usd_per_device == pytest.approx(3.6), "one more GPU makes 1,000 tok/s of bulk"
    assert hour.usd_per_mw == 0
    assert made.usd_per_device_year == pytest.approx(3.6 * 24 * 365)


def test_the_marginal_value_of_a_megawatt_is_what_one_more_adds() -> None:
    candidates = [
        each("premium", 0, 4, 4000, 900), each("bulk", 0, 4, 7000, 9000), each("bulk", 1, 4, 4500, 7000),
    ]  # fmt: skip
    made, more = (plan(fleet(mw, 90000, 5e6, 1e9), candidates) for mw in (20.0, 21.0))
    assert made.hours[0].usd_per_mw > 0
    added = more.hours[0].bound_usd - made.hours[0].bound_usd
    assert made.hours[0].usd_per_mw == pytest.approx(added, rel=1e-6)


def test_a_hundred_thousand_gpus_are_rounded_within_the_stated_distance() -> None:
    share = tuple(0.3 + 0.7 * abs(12 - hour) / 12 for hour in range(HOURS))
    small = fleet(170.0, 100_000, 9e7, 3e8)
    config = small.model_copy(
        update={
            "demand": {
                tier: demand.model_copy(update={"share_by_hour": share})
                for tier, demand in small.demand.items()
            }
        }
    )
    candidates = [
        each(
            tier,
            trial,
            1 << trial % 4,
            (1 << trial % 4) * (900 + 37 * trial),
            (300 + 90 * trial) * k,
        )
        for trial in range(20)
        for tier, k in (("premium", 1), ("bulk", 4))
    ]
    made = plan(config, candidates)
    assert_sound(config, made)
    assert made.usd_day <= made.bound_usd_day
    assert made.usd_day >= made.bound_usd_day * (1 - GAP)
    assert max(hour.devices for hour in made.hours) > 90_000


def test_one_configuration_for_all_never_earns_more() -> None:
    candidates = [
        each("premium", 0, 1, 1000, 500), each("bulk", 0, 1, 1000, 800),
        each("premium", 1, 1, 1000, 200), each("bulk", 1, 1, 1000, 3000),
    ]  # fmt: skip
    config = fleet(1.0, 100, 20000, 100000)
    best, single = plan(config, candidates), of_one_trial(config, candidates)
    assert {c.trial for c in single.candidates} == {1}
    assert single.usd_day < best.usd_day
    alone = plan(config, [c for c in candidates if c.trial == 1])
    other = plan(config, [c for c in candidates if c.trial == 0])
    assert single.usd_day == alone.usd_day >= other.usd_day


def test_one_configuration_for_all_is_chosen_in_whole_replicas() -> None:
    """Of three GPUs two replicas of two GPUs are no plan, though each of its GPUs gives more."""
    candidates = [each("bulk", 0, 2, 2000, 2000), each("bulk", 1, 1, 1000, 900)]
    single = of_one_trial(fleet(1.0, 3, 1.0, 5000), candidates)
    assert {c.trial for c in single.candidates} == {1}
    assert single.hours[0].replicas == (3,)


@given(CANDIDATES)
def test_one_configuration_for_all_is_the_best_of_each_alone(candidates: list[Candidate]) -> None:
    config = fleet(0.01, 8, 1e4, 1e4)
    trials = {c.trial for c in candidates}
    alone = [plan(config, [c for c in candidates if c.trial == t]).usd_day for t in trials]
    assert of_one_trial(config, candidates).usd_day == pytest.approx(max(alone), rel=2 * GAP)


@given(CANDIDATES)
def test_what_is_left_out_is_dominated(candidates: list[Candidate]) -> None:
    config = fleet(1, 8, 1e4, 1e4)
    kept = useful(config, candidates)
    for one in candidates:
        assert any(
            c.tier == one.tier
            and c.devices <= one.devices
            and c.watts <= one.watts
            and c.output_tok_s >= one.output_tok_s
            for c in kept
        )


def test_a_plan_without_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="meets the SLO of a tier"):
        plan(fleet(1, 8, 1, 1), [])


def test_a_day_has_24_hours() -> None:
    with pytest.raises(ValidationError, match="24 values, or 1 for all, not 3"):
        Demand(peak_output_tok_s=1, share_by_hour=(1, 1, 1), usd_per_m_output_tok=estimate(1))
