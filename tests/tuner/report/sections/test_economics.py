"""What the report says of energy and money, and the fleet command, from the ledger of a small study."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.metrics.test_derive import estimate
from tests.tuner.metrics.test_sensitivity import between
from tests.tuner.sample import sample_config, sample_study
from tuner.cli.fleet import load_fleet
from tuner.cli.parser import main
from tuner.config.errors import ConfigError
from tuner.config.groups.economics import Economics, Prices, Rented
from tuner.config.groups.objective import Slo, Tier
from tuner.config.load import load, save
from tuner.config.study import StudyConfig
from tuner.report.summary import show_report

CONFIG = sample_config()
PRICED = CONFIG.model_copy(
    update={
        "economics": Economics(
            name="an invented price list",
            capacity=Rented(kind="rented", usd_per_device_hour=between(0.05, 0.03, 0.08)),
            prices=Prices(
                usd_per_m_input=estimate(100), usd_per_m_output=between(300, 200, 400),
                tiers={"premium": estimate(2)},
            ),
        )
    }
)  # fmt: skip
FLEET = (
    "fleet.megawatts=0.001",
    "fleet.devices=100",
    "fleet.demand.premium.peak_output_tok_s=400",
    "fleet.demand.standard.peak_output_tok_s=900",
    "fleet.demand.bulk.peak_output_tok_s=5000",
)
Captured = pytest.CaptureFixture[str]


def study(folder: Path, config: StudyConfig) -> Path:
    sample_study(folder, config)
    save(config, folder)
    return folder


def told(folder: Path, config: StudyConfig) -> str:
    out = io.StringIO()
    show_report(folder, config, Console(file=out, width=120))
    return out.getvalue()


def test_what_each_tier_earns_and_where_the_zone_is(tmp_path: Path) -> None:
    folder = study(tmp_path / "sample", PRICED)
    said = told(folder, PRICED)
    section = said[said.index("What each tier earns") :]
    assert "trial 2, llamacpp, closed 8" in section
    assert "nobody keeps its promises" in section
    assert "The Goldilocks zone" in section
    assert "prices.usd_per_m_output" in section[section.index("What it hangs on") :]
    assert (folder / "goldilocks.png").read_bytes().startswith(b"\x89PNG")


def test_every_sum_of_money_comes_with_its_band(tmp_path: Path) -> None:
    folder = study(tmp_path / "sample", PRICED)
    section = told(folder, PRICED)
    rows = section[section.index("What each tier earns") : section.index("The Goldilocks zone")]
    assert rows.count("…") == 3 * 4
    assert "all inputs at once" in rows


def test_without_prices_the_knee_stands_in(tmp_path: Path) -> None:
    said = told(study(tmp_path / "sample", CONFIG), CONFIG)
    assert "Where the curve bends" in said
    assert "(economics)" in said
    assert "Goldilocks" not in said
    assert not (tmp_path / "sample" / "goldilocks.png").exists()


def test_the_fleet_command_plans_and_writes(tmp_path: Path, capsys: Captured) -> None:
    folder = study(tmp_path / "sample", CONFIG)
    assert main(["fleet", str(folder), *FLEET]) == 0
    said = capsys.readouterr().out
    assert "one more megawatt would earn" in said
    assert "one configuration for all tiers" in said
    plan = json.loads((folder / "fleet.json").read_text())
    assert len(plan["hours"]) == 24
    assert plan["modelled"] is False
    assert all(hour["megawatts"] <= 0.001 + 1e-12 for hour in plan["hours"])
    assert (folder / "fleet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("fleet=day_5mw", 2, "there is no such fleet; did you mean day_4mw"),
        ("fleet.megawats=3", 2, "fleet.megawats: unknown key; did you mean megawatts"),
        ("+fleet.demand.gold=${fleet.demand.bulk}", 2, "the study sells no such tier"),
        ("fleet.boundary=facility", 4, "economics states no facility"),
        ("fleet.demand.bulk.share_by_hour=[1,1]", 2, "24 values, or 1 for all, not 2"),
    ],
)
def test_a_mistake_is_one_line(
    override: str, code: int, said: str, tmp_path: Path, capsys: Captured
) -> None:
    folder = study(tmp_path / "sample", CONFIG)
    assert main(["fleet", str(folder), override]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_fleet_says_who_can_not_be_served(tmp_path: Path, capsys: Captured) -> None:
    tiers = {**CONFIG.slo.tiers, "premium": Tier(ttft_p99_ms=0.001)}
    strict = CONFIG.model_copy(update={"slo": Slo(tiers=tiers)})
    folder = study(tmp_path / "sample", strict)
    assert main(["fleet", str(folder), *FLEET]) == 0
    said = capsys.readouterr().out
    assert "premium: no measured point keeps its promises" in said
    assert "nothing is served" not in said
    assert main(["fleet", str(folder), *FLEET, "fleet.megawatts=1e-9"]) == 0
    assert "nothing is served: no replica that fits 1e-09 MW" in capsys.readouterr().out
    quiet = [f"fleet.demand.{tier}.share_by_hour=[0]" for tier in ("premium", "standard", "bulk")]
    assert main(["fleet", str(folder), *FLEET, *quiet]) == 0
    assert "nothing is served" not in capsys.readouterr().out


def test_what_can_not_be_priced_says_why(tmp_path: Path) -> None:
    config = sample_config(priced=False).model_copy(update={"economics": PRICED.economics})
    said = " ".join(told(study(tmp_path / "sample", config), config).split())
    assert (
        "No point can be priced by provisioned_margin_usd_mw_year (economics.zone.figure)" in said
    )


def test_what_ships_asks_for_tiers_that_ship() -> None:
    assert list(load_fleet([]).demand) == ["premium", "standard", "bulk"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("objective=margin_per_device_hour", "needs economics.prices: state it, or choose"),
        ("objective.axes.1.metric=facility_output_tok_s_mw", "needs economics.facility"),
        ("objective.direction=least", "objective.direction: input should be 'max' or 'min'"),
        ("objective=per_megawatt", "needs hardware.kw_per_device: state it, or choose hardware="),
        ("objective=cost", "needs hardware.usd_per_device_hour"),
        ("economics=lama", "there is no such economics; options: b300_owned"),
        ("economics.utilisation={value: 2, source: s, date: d}", "a share above 0, at most 1"),
    ],
)
def test_economics_that_do_not_fit_are_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load([override])


def test_a_tier_that_is_priced_must_be_sold() -> None:
    tiers = "economics.prices.tiers={gold: {value: 2, source: s, date: d}}"
    with pytest.raises(ConfigError, match=r"tiers\.gold: the study sells no such tier"):
        load(["economics=llama33_70b", f"+{tiers}"])
    priced = ["economics=b300_owned", "topology=tp8", "hardware=b300"]
    with pytest.raises(ConfigError, match="is to be maximised: max"):
        load([*priced, "objective=margin_per_device_hour", "objective.direction=min"])
