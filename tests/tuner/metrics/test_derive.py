"""The arithmetic of money and power, against figures worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.results.metrics import METRICS
from serving.telemetry.validity import Verdict
from tuner.config.groups.economics import Economics, Facility
from tuner.config.groups.hardware import Constant, Estimate, Hardware
from tuner.metrics.catalogue import DERIVED
from tuner.metrics.catalogue.efficiency import BOUNDARIES, joules_per_token
from tuner.metrics.derive import derive, tokens_per_s_per_mw, usd_per_million_tokens
from tuner.metrics.energy import Metering, energy_figures


def estimate(value: float) -> Estimate:
    return Estimate(value=value, source="a test", date="2026-07-14")


def constant(value: float) -> Constant:
    return Constant(value=value, source="a test", date="2026-07-14")


B300 = Hardware(
    name="b",
    device="GPU",
    devices_per_node=8,
    kw_per_device=constant(1.9),
    usd_per_device_hour=constant(2.52),
)
BARE = Hardware(name="bare", device="host", devices_per_node=1)


def test_megawatts_and_dollars_by_hand() -> None:
    # 6,650 tok/s on a GPU of 1.90 kW are 3.5 million tok/s a megawatt.
    assert tokens_per_s_per_mw(6650, B300) == pytest.approx(3.5e6)
    # $2.52 an hour buys 700 · 3,600 = 2.52 million tokens: a dollar a million.
    assert usd_per_million_tokens(700, B300) == pytest.approx(1.0)


def test_a_metric_without_its_constant_is_none() -> None:
    assert tokens_per_s_per_mw(1, BARE) is None
    assert usd_per_million_tokens(1, BARE) is None
    assert usd_per_million_tokens(0, B300) is None


def test_every_configured_metric_has_a_value_or_a_reason() -> None:
    measured = {"throughput_output_tok_s": 8000.0, "throughput_total_tok_s": None}
    figures, reasons = derive(measured, 8, B300)
    assert set(figures) <= set(DERIVED)
    assert {name for name, value in figures.items() if value is None} == set(reasons)
    assert figures["throughput_output_tok_s_device"] == 1000
    assert figures["provisioned_output_tok_s_mw"] == pytest.approx(1e6 / 1.9)
    assert figures["usd_per_m_output_tok"] == pytest.approx(0.7)
    assert {reasons[name] for name in reasons if "total" in name} == {"no throughput was measured"}
    assert not [n for n in figures if n.startswith(("node", "facility", "revenue", "cost"))]


def test_the_missing_constant_is_named() -> None:
    _, reasons = derive({"throughput_output_tok_s": 5.0, "throughput_total_tok_s": 9.0}, 1, BARE)
    assert reasons["provisioned_total_tok_s_mw"] == "hardware bare states no kw_per_device"
    assert reasons["usd_per_m_output_tok"] == "hardware bare states no usd_per_device_hour"
    assert "power_w_device says why" in reasons["board_output_tok_s_w"]


def test_no_boundary_stands_in_for_another() -> None:
    """8 boards of 1,000 W in a node of 10,600, 8,000 tok/s out, 16,000 in all."""
    measured = {
        "throughput_output_tok_s": 8000.0,
        "throughput_total_tok_s": 16000.0,
        "power_w_device": 1000.0,
        "node_power_w_device": 1325.0,
    }
    of_node = Economics(facility=Facility(pue=estimate(1.3)))
    figures, reasons = derive(measured, 8, B300, of_node)
    assert not reasons
    per_w = {b: figures[f"{b}_output_tok_s_w"] for b in BOUNDARIES}
    assert per_w == pytest.approx(
        {"board": 1.0, "node": 1 / 1.325, "provisioned": 1 / 1.9, "facility": 1 / (1.3 * 1.325)}
    )
    assert figures["node_j_per_output_tok"] == pytest.approx(1.325)
    assert "board_j_per_output_tok" not in figures  # energy_j_per_output_tok: as it was metered
    # InferenceX's published example: 10,591 W of IT at 8 × 1,000 W of B200, 13,768 W of the facility.
    of_boards = Economics(facility=Facility(pue=estimate(1.3), host_w_per_device=estimate(323.9)))
    assert of_boards.facility is not None
    assert of_boards.facility.watts(1000.0, None) == pytest.approx(13768 / 8, rel=1e-3)
    assert of_boards.facility.watts(None, 1325.0) is None


@given(st.floats(1, 1e6), st.floats(1, 2000), st.integers(1, 72))
def test_joules_watts_and_megawatts_agree(rate: float, watts: float, devices: int) -> None:
    measured = {
        "throughput_output_tok_s": rate * devices,
        "throughput_total_tok_s": 3 * rate * devices,
        "power_w_device": watts,
    }
    figures, _ = derive(measured, devices, B300)
    metered, _ = energy_figures(
        measured, Metering({"gpu": Verdict({"all": watts * devices})}), 1.0, devices, 8
    )
    for boundary in ("board", "provisioned"):
        joules = {**figures, **metered}[joules_per_token(boundary, "total")]
        per_w, per_mw = (figures[f"{boundary}_total_tok_s_{unit}"] for unit in ("w", "mw"))
        assert joules is not None
        assert per_w is not None
        assert joules * per_w == pytest.approx(1)
        assert per_mw == pytest.approx(1e6 * per_w)
    assert figures["board_total_tok_s_w"] == pytest.approx(3 * rate / watts)


@given(st.floats(0.1, 1e6), st.integers(1, 72))
def test_the_tokens_of_an_hour_cost_its_price(rate: float, devices: int) -> None:
    figures, _ = derive({"throughput_output_tok_s": rate * devices}, devices, B300)
    usd = figures["usd_per_m_output_tok"]
    assert usd is not None
    assert usd * rate * 3600 / 1e6 == pytest.approx(2.52)


def test_no_name_is_measured_and_derived() -> None:
    assert not set(DERIVED) & {metric.name for metric in METRICS}
