"""Costs, prices and margins against calculations by hand; impossible inputs are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tuner.metrics.test_derive import B300, BARE, estimate
from tuner.config.groups.economics import Economics, Facility, Owned, Premium, Prices, Rented, Zone
from tuner.config.groups.hardware import Hardware
from tuner.metrics.catalogue import DERIVED
from tuner.metrics.derive import derive, earned, unconfigured
from tuner.metrics.earnings import HOURS_PER_YEAR, annuity, usd_device_hour

PRICES = Prices(usd_per_m_input=estimate(0.5), usd_per_m_output=estimate(2.0))
RENTED = Rented(kind="rented", usd_per_device_hour=estimate(5.0))
OWNED = Owned(
    kind="owned",
    capital_usd_per_device=estimate(60000),
    lifetime_years=estimate(5),
    interest=estimate(0.1),
    operations_usd_per_device_hour=estimate(0.25),
    power_usd_per_kwh=estimate(0.1),
)
# Two GPUs: 1,000 output tok/s and 4,000 prompt tok/s each, 50 tok/s to each user, 900 W.
POINT: dict[str, float | None] = {
    "throughput_output_tok_s": 2000.0,
    "throughput_total_tok_s": 10000.0,
    "interactivity_tok_s_user": 50.0,
    "power_w_device": 900.0,
}


def figures(economics: Economics, tier: str | None = None) -> dict[str, float | None]:
    return earned(POINT, 2, B300, economics, tier)


def test_a_rented_hour_by_hand() -> None:
    """14.4 M prompt tokens at $0.50 and 3.6 M output tokens at $2 an hour: $14.40; half the hours sold."""
    found = figures(Economics(capacity=RENTED, prices=PRICES, utilisation=estimate(0.5)))
    assert found["revenue_usd_device_hour"] == pytest.approx(7.2)
    assert found["margin_usd_device_hour"] == pytest.approx(2.2)
    assert found["cost_usd_per_m_output_tok"] == pytest.approx(5 / (3.6 * 0.5))
    assert found["cost_usd_per_m_total_tok"] == pytest.approx(5 / (18 * 0.5))
    # A prompt token counts as a quarter of an output token: 3.6 + 14.4 / 4 = 7.2 M an hour.
    assert found["cost_usd_per_m_blended_tok"] == pytest.approx(5 / (7.2 * 0.5))
    assert found["break_even_utilisation"] == pytest.approx(5 / 14.4)
    per_mw_year = 8760 * 1000 / 1.9
    assert found["provisioned_revenue_usd_mw_year"] == pytest.approx(7.2 * per_mw_year)
    assert found["provisioned_margin_usd_mw_year"] == pytest.approx(2.2 * per_mw_year)
    assert found["facility_revenue_usd_mw_year"] is None


def test_an_annuity_repays_its_capital() -> None:
    for interest, years in ((0.0, 5.0), (0.1, 5.0), (0.06, 7.0)):
        left, due = 1.0, annuity(interest, years)
        for _ in range(round(years)):
            left = left * (1 + interest) - due
        assert left == pytest.approx(0, abs=1e-12)


def test_an_owned_hour_by_hand() -> None:
    """0.26380 of the capital is due each year at 10 % over 5 years."""
    capital = 60000 * 0.263797 / HOURS_PER_YEAR
    watts = {"provisioned": 1900.0, "facility": 1.3 * (900 + 300)}
    by_constant = usd_device_hour(Economics(capacity=OWNED), B300, watts)
    assert by_constant == pytest.approx(capital + 0.25 + 1.9 * 0.1, rel=1e-5)
    metered = OWNED.model_copy(update={"energy": "facility"})
    facility = Facility(pue=estimate(1.3), host_w_per_device=estimate(300))
    economics = Economics(capacity=metered, facility=facility, prices=PRICES)
    assert figures(economics)["cost_usd_device_hour"] == pytest.approx(
        capital + 0.25 + 1.56 * 0.1, rel=1e-5
    )


def test_cached_prompts_are_billed_at_their_price() -> None:
    cached = {"usd_per_m_cached_input": estimate(0.05), "cached_share": estimate(0.4)}
    assert PRICES.model_copy(update=cached).usd_per_prompt() == pytest.approx(
        0.6 * 0.5 + 0.4 * 0.05
    )


def test_premium_by_steps_and_linearly() -> None:
    steps = tuple(
        Premium(from_tok_s_user=speed, factor=estimate(factor))
        for speed, factor in ((20, 0.5), (40, 1.0), (100, 2.5))
    )
    prices = PRICES.model_copy(update={"premium": steps, "tiers": {"bulk": estimate(0.4)}})
    factors = {speed: prices.factor(speed) for speed in (10, 20, 39.9, 40, 99, 100, 500)}
    assert factors == {10: 1.0, 20: 0.5, 39.9: 0.5, 40: 1.0, 99: 1.0, 100: 2.5, 500: 2.5}
    between = prices.model_copy(update={"between": "linear"})
    assert [between.factor(speed) for speed in (10, 30, 70, 200)] == [0.5, 0.75, 1.75, 2.5]
    assert prices.factor(70, "bulk") == 0.4
    assert prices.factor(70, "premium") == 1.0
    assert prices.factor(None) is None


def test_without_a_constant_there_are_no_earnings_and_a_reason() -> None:
    _, reasons = derive(POINT, 2, BARE, Economics(prices=PRICES))
    assert reasons["margin_usd_device_hour"] == "hardware bare states no usd_per_device_hour"
    assert reasons["provisioned_revenue_usd_mw_year"] == "hardware bare states no kw_per_device"
    _, reasons = derive(POINT, 2, B300, Economics(capacity=RENTED))
    assert reasons["revenue_usd_device_hour"] == "economics.prices is not stated"
    assert reasons["facility_revenue_usd_mw_year"] == "economics.facility is not stated"
    unmetered = {**POINT, "power_w_device": None}
    facility = Facility(pue=estimate(1.3), host_w_per_device=estimate(300))
    capacity = OWNED.model_copy(update={"energy": "facility"})
    economics = Economics(capacity=capacity, facility=facility, prices=PRICES)
    money, reasons = derive(unmetered, 2, B300, economics)
    assert money["margin_usd_device_hour"] is None
    assert reasons["margin_usd_device_hour"] == "no valid power of the GPU boards was measured"
    assert set(reasons) == {name for name, value in money.items() if value is None}


def test_the_key_that_a_metric_lacks() -> None:
    assert unconfigured("margin_usd_device_hour", Economics()) == "economics.prices"
    assert unconfigured("cost_usd_device_hour", Economics()) == "economics.capacity"
    assert unconfigured("facility_output_tok_s_mw", Economics()) == "economics.facility"
    assert unconfigured("usd_per_m_output_tok", Economics()) == ""
    bare = Hardware(name="bare", device="host", devices_per_node=1)
    for metric, missing in {
        "usd_per_m_output_tok": "hardware.usd_per_device_hour",
        "provisioned_output_tok_s_mw": "hardware.kw_per_device",
        "board_output_tok_s_mw": "",
    }.items():
        assert unconfigured(metric, Economics(), bare) == missing
    whole = Economics(prices=PRICES, capacity=RENTED, facility=Facility(pue=estimate(1.2)))
    assert not any(unconfigured(name, whole) for name in DERIVED)


@given(st.floats(0.1, 50), st.floats(0.05, 1), st.floats(0.1, 10))
def test_at_break_even_revenue_is_cost(usd: float, sold: float, price: float) -> None:
    prices = Prices(usd_per_m_input=estimate(0), usd_per_m_output=estimate(price))
    rented = Rented(kind="rented", usd_per_device_hour=estimate(usd))
    found = figures(Economics(capacity=rented, prices=prices, utilisation=estimate(sold)))
    share = found["break_even_utilisation"]
    assert share is not None
    if share <= 1:
        there = Economics(capacity=rented, prices=prices, utilisation=estimate(share))
        assert figures(there)["margin_usd_device_hour"] == pytest.approx(0, abs=1e-9)
    margin = found["margin_usd_device_hour"]
    assert margin is not None
    assert (margin > 0) == (sold > share) or margin == pytest.approx(0, abs=1e-9)


IMPOSSIBLE: list[tuple[type, dict[str, Any], str]] = [
    (Economics, {"utilisation": estimate(0)}, "utilisation: a share above 0"),
    (Economics, {"utilisation": estimate(1.2)}, "utilisation: a share above 0"),
    (Facility, {"pue": estimate(0.9)}, "pue: must be at least 1"),
    (Zone, {"within": 1.5}, "less than 1"),
    (Economics, {"zone": {"figure": "cost_usd_device_hour"}}, "zone.figure"),
    (Prices, {**dict(PRICES), "cached_share": estimate(0.1)}, "both or neither"),
    (Owned, {**dict(OWNED), "lifetime_years": estimate(0)}, "lifetime_years: must be above 0"),
    (
        Prices,
        {
            **dict(PRICES),
            "premium": [
                {"from_tok_s_user": 5, "factor": estimate(1)},
                {"from_tok_s_user": 5, "factor": estimate(2)},
            ],
        },
        "must rise",
    ),
]


@pytest.mark.parametrize(("model", "given_", "said"), IMPOSSIBLE)
def test_impossible_inputs_are_refused(model: Any, given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        model(**given_)


def test_an_estimate_lies_between_its_bounds() -> None:
    with pytest.raises(ValidationError, match="low ≤ value ≤ high"):
        estimate(1).model_validate({"value": 1, "low": 2, "source": "s", "date": "d"})
