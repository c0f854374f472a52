"""Bands against every combination of ends, and against single ends by hand."""

from itertools import product

import pytest

from tests.tuner.metrics.test_derive import B300
from tests.tuner.metrics.test_earnings import OWNED, POINT, PRICES, RENTED
from tuner.config.compose import conf_dir
from tuner.config.groups.economics import Economics, Facility
from tuner.config.groups.hardware import Estimate
from tuner.config.own_files import from_yaml
from tuner.metrics.catalogue import CATALOGUE, SIGNED
from tuner.metrics.catalogue.earnings import EARNINGS
from tuner.metrics.derive import earned
from tuner.metrics.sensitivity import band, inputs, moved, uncertain


def between(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, source="a test", date="2026")


ECONOMICS = Economics(
    capacity=OWNED.model_copy(
        update={"lifetime_years": between(5, 4, 6), "power_usd_per_kwh": between(0.1, 0.05, 0.2)}
    ),
    prices=PRICES.model_copy(update={"usd_per_m_output": between(2, 1, 4)}),
    utilisation=between(0.6, 0.3, 0.9),
)


def test_inputs_are_found_at_every_depth() -> None:
    names = inputs(ECONOMICS)
    assert {"capacity.lifetime_years", "prices.usd_per_m_input", "utilisation"} <= set(names)
    assert len(uncertain(ECONOMICS)) == 4
    there = moved(ECONOMICS, {("capacity", "lifetime_years"): 1, ("utilisation",): 0})
    assert inputs(there)["capacity.lifetime_years"].value == 6
    assert inputs(there)["utilisation"].value == 0.3
    assert inputs(ECONOMICS)["utilisation"].value == 0.6


# Earns or loses, so that a larger building is sometimes the better news.
DOUBTFUL = Economics(
    capacity=RENTED.model_copy(update={"usd_per_device_hour": between(5, 3, 8)}),
    facility=Facility(pue=between(1.3, 1.05, 1.8), host_w_per_device=between(300, 200, 500)),
    prices=PRICES.model_copy(
        update={"usd_per_m_output": between(2, 0.5, 4), "usd_per_m_input": between(0.1, 0.05, 0.3)}
    ),
)
METERED = {**POINT, "power_w_device": 900.0}


@pytest.mark.parametrize("economics", [ECONOMICS, DOUBTFUL], ids=["owned", "doubtful"])
@pytest.mark.parametrize("figure", sorted(set(EARNINGS) - {"cost_usd_per_m_blended_tok"}))
def test_no_corner_lies_outside_the_band(figure: str, economics: Economics) -> None:
    def of(case: Economics) -> float | None:
        return earned(METERED, 2, B300, case)[figure]

    found = band(economics, of)
    if CATALOGUE[figure].boundary == "facility" and economics.facility is None:
        assert found is None
        return
    assert found is not None
    paths = uncertain(economics)
    corners = [
        of(moved(economics, dict(zip(paths, ends, strict=True))))
        for ends in product((0, 1), repeat=len(paths))
    ]
    values = [value for value in corners if value is not None]
    assert (found.low, found.high) == pytest.approx((min(values), max(values)))
    assert found.base == of(economics)
    assert found.low <= found.base <= found.high
    widths = [swing.width for swing in found.swings]
    assert widths == sorted(widths, reverse=True)


def test_a_swing_moves_one_input_between_its_bounds() -> None:
    found = band(ECONOMICS, lambda each: earned(POINT, 2, B300, each)["revenue_usd_device_hour"])
    assert found is not None
    by_name = {swing.input: swing for swing in found.swings}
    assert set(by_name) == {"prices.usd_per_m_output", "utilisation"}
    # 14.4 M prompt tokens at $0.50 and 3.6 M output tokens at $1 and at $4, six hours in ten.
    assert by_name["prices.usd_per_m_output"].at_low == pytest.approx(0.6 * (7.2 + 3.6))
    assert by_name["prices.usd_per_m_output"].at_high == pytest.approx(0.6 * (7.2 + 14.4))


def test_the_shipped_economics_state_bounds_and_sources() -> None:
    for name in ("llama33_70b",):
        economics = Economics.model_validate(from_yaml(conf_dir() / "economics" / f"{name}.yaml"))
        assert uncertain(economics)
        assert all(estimate.source and estimate.date for estimate in inputs(economics).values())


def test_only_margins_are_negative() -> None:
    poor = moved(ECONOMICS, {("utilisation",): 0, ("prices", "usd_per_m_output"): 0})
    slow: dict[str, float | None] = {
        **POINT,
        "throughput_output_tok_s": 1,
        "throughput_total_tok_s": 2,
    }
    found = earned(slow, 2, B300, poor)
    assert {name for name, value in found.items() if value is not None and value < 0} <= SIGNED
    assert found["margin_usd_device_hour"] is not None
    assert found["margin_usd_device_hour"] < 0
