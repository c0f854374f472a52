"""The fleet command on a small study: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured
from tests.tuner.samples.study import sample_config, sample_study
from tuner.cli.fleet import load_fleet
from tuner.cli.parser import main
from tuner.config.groups.objective import Slo, Tier
from tuner.config.load import save
from tuner.config.study import StudyConfig

CONFIG = sample_config()
FLEET = (
    "fleet.megawatts=0.001",
    "fleet.devices=100",
    "fleet.demand.premium.peak_output_tok_s=400",
    "fleet.demand.standard.peak_output_tok_s=900",
    "fleet.demand.bulk.peak_output_tok_s=5000",
)


def study(folder: Path, config: StudyConfig) -> Path:
    sample_study(folder, config)
    save(config, folder)
    return folder


@pytest.mark.thorough
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
        ("+fleet.demand.gold=${fleet.demand.bulk}", 2, "the study has no such tier"),
        ("fleet.boundary=facility", 4, "economics states no facility"),
        ("fleet.demand.bulk.share_by_hour=[1,1]", 2, "24 values, or 1 for all, not 2"),
    ],
)
def test_a_mistake_in_the_fleet_is_one_line(
    override: str, code: int, said: str, tmp_path: Path, capsys: Captured
) -> None:
    folder = study(tmp_path / "sample", CONFIG)
    assert main(["fleet", str(folder), override]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.thorough
def test_tiers_that_cannot_be_served_are_named(tmp_path: Path, capsys: Captured) -> None:
    tiers = {**CONFIG.slo.tiers, "premium": Tier(ttft_p99_ms=0.001)}
    strict = CONFIG.model_copy(update={"slo": Slo(tiers=tiers)})
    folder = study(tmp_path / "sample", strict)
    assert main(["fleet", str(folder), *FLEET]) == 0
    said = capsys.readouterr().out
    assert "premium: no point meets the SLO" in said
    assert "nothing is served" not in said
    assert main(["fleet", str(folder), *FLEET, "fleet.megawatts=1e-9"]) == 0
    assert "nothing is served: no replica that fits 1e-09 MW" in capsys.readouterr().out
    quiet = [f"fleet.demand.{tier}.share_by_hour=[0]" for tier in ("premium", "standard", "bulk")]
    assert main(["fleet", str(folder), *FLEET, *quiet]) == 0
    assert "nothing is served" not in capsys.readouterr().out


def test_the_shipped_demand_is_of_shipped_tiers() -> None:
    assert list(load_fleet([]).demand) == ["premium", "standard", "bulk"]
