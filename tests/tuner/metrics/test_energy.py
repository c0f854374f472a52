"""Watts and joules per token against arithmetic, and a reason for each that is missing."""

import pytest

from serving.telemetry.validity import Verdict
from tuner.metrics.catalogue.power import ENERGY, POWER
from tuner.metrics.energy import (
    NO_COMPARISON,
    NOT_ASKED,
    NOT_METERED,
    Idle,
    Metering,
    energy_figures,
)

RATES = {"throughput_output_tok_s": 100.0, "throughput_total_tok_s": 900.0}
BOARDS = Verdict({f"gpu{i}": 45_000.0 / 8 for i in range(8)}, counter_error=0.01)


def figures_of(
    metering: Metering, rates: dict[str, float] = RATES, seconds: float = 10.0
) -> tuple[dict[str, float | None], dict[str, str]]:
    figures, reasons = energy_figures(rates, metering, seconds, 8, 8)
    assert set(figures) <= set(POWER)
    assert {name for name, value in figures.items() if value is None} == {
        name for name in reasons if figures[name] is None
    }
    return figures, reasons


def test_watts_over_rates_are_joules_per_token() -> None:
    figures, reasons = figures_of(Metering({"gpu": BOARDS}, Idle(80.0, ""), Idle(112.5, "")))
    assert figures == pytest.approx(
        {
            "power_valid": 1.0,
            "power_w_device": 562.5,
            "energy_j_per_output_tok": 45.0,
            "energy_j_per_total_tok": 5.0,
            "net_energy_j_per_output_tok": 36.0,
            "net_energy_j_per_total_tok": 4.0,
            "power_idle_w_device": 80.0,
            "power_loaded_idle_w_device": 112.5,
            "power_counter_error": 0.01,
        }
    )
    assert not reasons


def test_energy_that_was_not_metered_is_none_with_a_reason() -> None:
    figures, reasons = figures_of(Metering({}))
    assert set(figures) == set(ENERGY)
    assert all(value is None for value in figures.values())
    assert reasons == dict.fromkeys(ENERGY, NOT_METERED)


def test_invalid_power_gives_no_joules_and_all_reasons() -> None:
    broken = Verdict(None, ("gpu0: its energy counter went back", "gpu1: no reading for 3 s"))
    figures, reasons = figures_of(Metering({"gpu": broken}, Idle(80.0, ""), Idle(90.0, "")))
    assert figures["power_valid"] == 0.0
    known = [name for name, value in figures.items() if value is not None]
    assert sorted(known) == ["power_idle_w_device", "power_loaded_idle_w_device", "power_valid"]
    assert reasons["energy_j_per_output_tok"] == (
        "gpu0: its energy counter went back; gpu1: no reading for 3 s"
    )
    assert reasons["power_valid"] == reasons["power_w_device"]
    assert reasons["power_counter_error"] == NO_COMPARISON


def test_without_tokens_there_are_only_watts() -> None:
    rates = {"throughput_output_tok_s": 0.0}
    figures, reasons = figures_of(Metering({"gpu": BOARDS}), rates)
    assert figures["power_w_device"] == 562.5
    assert figures["energy_j_per_output_tok"] is None
    assert reasons["energy_j_per_output_tok"] == "no throughput was measured"


def test_net_needs_the_loaded_idle_power_and_is_never_negative() -> None:
    _, reasons = figures_of(Metering({"gpu": BOARDS}, loaded=Idle(None, NOT_ASKED)))
    assert reasons["net_energy_j_per_output_tok"] == NOT_ASKED
    figures, reasons = figures_of(Metering({"gpu": BOARDS}, loaded=Idle(600.0, "")))
    assert figures["net_energy_j_per_output_tok"] is None
    assert "less under load than idle" in reasons["net_energy_j_per_output_tok"]


def test_prefill_and_decode_on_separate_boards_have_joules_each() -> None:
    apart = Verdict({"a": 8000.0, "b": 2000.0}, by_role={"prefill": 8000.0, "decode": 2000.0})
    figures, _ = figures_of(Metering({"gpu": apart}))
    assert figures["prefill_energy_j_per_input_tok"] == 1.0  # 800 W over 800 prompt tokens a second
    assert figures["decode_energy_j_per_output_tok"] == 2.0
    together, _ = figures_of(Metering({"gpu": BOARDS}))
    assert "prefill_energy_j_per_input_tok" not in together


def test_node_watts_need_a_trial_on_all_devices_of_the_node() -> None:
    node, cpu = Verdict({"node": 60_000.0}), Verdict({"package-0": 3000.0, "package-1": 2000.0})
    metering = Metering({"gpu": BOARDS, "node": node, "cpu": cpu, "dram": Verdict(None, ("no",))})
    figures, reasons = energy_figures(RATES, metering, 10.0, 8, 8)
    assert figures["node_power_w_device"] == 750.0
    assert figures["cpu_power_w"] == 500.0
    assert figures["dram_power_w"] is None
    assert reasons["dram_power_w"] == "no"
    figures, reasons = energy_figures(RATES, metering, 10.0, 2, 8)
    assert figures["node_power_w_device"] is None
    assert "2 of the node's 8 devices" in reasons["node_power_w_device"]
