"""The section of energy and money, from the ledger of a small study."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.metrics.test_derive import estimate
from tests.tuner.metrics.test_sensitivity import between
from tests.tuner.samples.study import sample_config, sample_study
from tuner.config.errors import ConfigError
from tuner.config.groups.economics import Economics, Prices, Rented
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
Captured = pytest.CaptureFixture[str]


def study(folder: Path, config: StudyConfig) -> Path:
    sample_study(folder, config)
    save(config, folder)
    return folder


def report_text(folder: Path, config: StudyConfig) -> str:
    out = io.StringIO()
    show_report(folder, config, Console(file=out, width=120))
    return out.getvalue()


def test_earnings_by_tier_and_the_zone_are_shown(tmp_path: Path) -> None:
    folder = study(tmp_path / "sample", PRICED)
    said = report_text(folder, PRICED)
    section = said[said.index("What each tier earns") :]
    assert "trial 2, llamacpp, closed 8" in section
    assert "no configuration meets the SLO" in section
    assert "The Goldilocks zone" in section
    assert "prices.usd_per_m_output" in section[section.index("Sensitivity of") :]
    assert (folder / "goldilocks.png").read_bytes().startswith(b"\x89PNG")


def test_every_amount_has_a_range(tmp_path: Path) -> None:
    folder = study(tmp_path / "sample", PRICED)
    section = report_text(folder, PRICED)
    rows = section[section.index("What each tier earns") : section.index("The Goldilocks zone")]
    assert rows.count("…") == 3 * 4
    assert "all inputs at their worst" in rows


def test_without_prices_the_knee_stands_in(tmp_path: Path) -> None:
    said = report_text(study(tmp_path / "sample", CONFIG), CONFIG)
    assert "Knee of the front" in said
    assert "(economics)" in said
    assert "Goldilocks" not in said
    assert not (tmp_path / "sample" / "goldilocks.png").exists()


def test_a_zone_that_is_unavailable_says_why(tmp_path: Path) -> None:
    config = sample_config(priced=False).model_copy(update={"economics": PRICED.economics})
    said = " ".join(report_text(study(tmp_path / "sample", config), config).split())
    assert (
        "no point can be priced by provisioned_margin_usd_mw_year (economics.zone.figure)" in said
    )


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


def test_a_priced_tier_must_be_in_the_slo() -> None:
    tiers = "economics.prices.tiers={gold: {value: 2, source: s, date: d}}"
    with pytest.raises(ConfigError, match=r"tiers\.gold: slo.tiers has no such tier"):
        load(["economics=llama33_70b", f"+{tiers}"])
    priced = ["experiment=laptop", "economics=b300_owned", "topology=tp8", "hardware=b300"]
    with pytest.raises(ConfigError, match="can only be maximised: max"):
        load([*priced, "objective=margin_per_device_hour", "objective.direction=min"])
