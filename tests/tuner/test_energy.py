"""Joules per token against arithmetic."""

import pytest

from tuner.energy import ENERGY, NOT_METERED, energy_figures


def test_watts_over_rates_are_joules_per_token() -> None:
    rates = {"throughput_output_tok_s": 100.0, "throughput_total_tok_s": 900.0}
    figures, reasons = energy_figures(rates, joules=45_000.0, seconds=10.0, devices=8)
    assert figures == pytest.approx(
        {
            "power_w_device": 562.5,
            "energy_j_per_output_tok": 45.0,
            "energy_j_per_total_tok": 5.0,
        }
    )
    assert not reasons


def test_energy_that_was_not_metered_is_none_and_says_so() -> None:
    figures, reasons = energy_figures({"throughput_output_tok_s": 1.0}, None, 10.0, 1)
    assert set(figures) == set(ENERGY)
    assert all(value is None for value in figures.values())
    assert reasons == dict.fromkeys(ENERGY, NOT_METERED)


def test_without_tokens_there_are_watts_alone() -> None:
    figures, reasons = energy_figures({"throughput_output_tok_s": 0.0}, 100.0, 10.0, 2)
    assert figures["power_w_device"] == 5.0
    assert figures["energy_j_per_output_tok"] is None
    assert set(reasons) == {"energy_j_per_output_tok", "energy_j_per_total_tok"}
