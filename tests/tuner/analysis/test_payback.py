"""The gain of a study and when it pays for it, against figures by hand, and in the report."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from serving.engines import Vllm
from serving.topology import Topology
from tests.tuner.confirm.test_rounds import CONFIG as CONFIRMED
from tests.tuner.confirm.test_rounds import play
from tests.tuner.samples.landscape import landscape, measured, result_of
from tests.tuner.samples.study import sample_config, sample_study
from tuner.analysis.default_cautions import default_cautions
from tuner.analysis.payback import gains, payback_h
from tuner.config.groups.objective import ObjectiveConfig
from tuner.config.groups.search import Budget, SearchConfig
from tuner.config.groups.space import Point
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.confirm.ranking import Ratio, Standing
from tuner.confirm.results import in_unit, remeasured
from tuner.metrics.catalogue import CATALOGUE
from tuner.metrics.notation import number, usd
from tuner.report.sections.payback import show_payback
from tuner.results.ledger import Ledger, read, results, searched
from tuner.results.tiers import utility
from tuner.study.study import Study
from tuner.trial.result import Completed, Failed, Measured, Timings

CONFIG = landscape(SearchConfig(kind="random", trials=3))
BEST: Point = {
    "engine.llamacpp.threads": 4,
    "engine.llamacpp.batch_size": 1024,
    "engine.llamacpp.cache_type_k": "f16",
}  # twice as fast as the default


def ledger_of(folder: Path, *points: Point) -> Path:
    with Ledger.open(folder) as ledger:
        for number, point in enumerate(points):
            ledger.finished(number, point, Measured(result_of(CONFIG, point), {}))
    return folder


def report_of(folder: Path, config: StudyConfig, stopped: str = "") -> str:
    out, lines = io.StringIO(), read(folder)
    again = {tier.tier: tier for tier in remeasured(config, lines)}
    show_payback(config, lines, again, stopped, Console(file=out, width=80))
    return out.getvalue()


def test_half_the_devices_serve_the_load_of_one_twice_as_fast(tmp_path: Path) -> None:
    bulk, fast = gains(CONFIG, results(ledger_of(tmp_path, {}, BEST)), {})
    assert bulk.default is not None
    assert bulk.best == pytest.approx(2 * bulk.default)
    assert bulk.share == pytest.approx(0.5)
    assert fast.share is None
    assert "does not meet the SLO" in fast.unavailable


def test_payback_by_hand() -> None:
    """12 device-hours, a tenth of 8 devices: 0.8 device-hours are saved each hour."""
    assert payback_h(12, 0.1, 8) == pytest.approx(15)
    assert payback_h(12, 0.0, 8) is None
    assert payback_h(12, -0.1, 8) is None


def test_a_gain_without_a_default_or_a_better_configuration(tmp_path: Path) -> None:
    (bulk, _) = gains(CONFIG, results(ledger_of(tmp_path / "a", BEST)), {})
    assert bulk.unavailable == "the default of llamacpp was not run"
    (bulk, fast) = gains(CONFIG, results(ledger_of(tmp_path / "b", {})), {})
    assert bulk.is_default
    assert bulk.share == 0
    assert fast.unavailable == "no configuration meets the SLO"
    assert "the default is the best" in report_of(tmp_path / "b", CONFIG)


def test_of_a_minimised_metric_the_share_is_of_reciprocals(tmp_path: Path) -> None:
    quick = ObjectiveConfig(metric="tpot_p50_ms", direction="min")  # any that is minimised
    config = CONFIG.model_copy(update={"objective": quick})
    (bulk, _) = gains(config, results(ledger_of(tmp_path, {}, BEST)), {})
    assert bulk.best == 10
    assert bulk.default == 20
    assert bulk.share == pytest.approx(0.5)
    assert CATALOGUE["usd_per_m_output_tok"].saves_devices
    assert CATALOGUE["provisioned_output_tok_s_mw"].saves_devices
    assert not CATALOGUE["energy_j_per_output_tok"].saves_devices
    assert not CATALOGUE["margin_usd_device_hour"].saves_devices


@pytest.mark.parametrize(("default", "share"), [(1.0, 0.5), (0.5, 0.75), (-1.0, None)])
def test_a_margin_twice_as_large_is_twice_as_large(
    tmp_path: Path, default: float, share: float | None
) -> None:
    """Not by the utility that samplers see; and a loss has no share."""
    margins = ObjectiveConfig(metric="margin_usd_device_hour")
    config = CONFIG.model_copy(update={"objective": margins})
    with Ledger.open(tmp_path) as ledger:
        for number, (point, usd) in enumerate((({}, default), (BEST, 2.0))):
            result = result_of(CONFIG, point)
            last = result.points[-1]
            last = replace(last, metrics={**last.metrics, "margin_usd_device_hour": usd})
            ledger.finished(number, point, Measured(replace(result, points=(last,)), {}))
    (bulk, _) = gains(config, results(tmp_path), {})
    assert (bulk.default, bulk.best) == (default, 2.0)
    assert bulk.share == share
    assert ("a share needs a positive value" in bulk.unavailable) == (share is None)


def test_remeasured_margins_are_compared_in_dollars() -> None:
    margins = ObjectiveConfig(metric="margin_usd_device_hour")

    def of(usd: float) -> float:
        return utility(margins.target, usd)

    ratios = (of(usd) / of(1.0) - 1 for usd in (2.0, 1.5, 3.0))
    standing = Standing("a", 3, 0, of(2.0), of(1.9), of(2.1), over_default=Ratio(*ratios))
    found = in_unit(standing, margins, of(1.0))
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 1.9, 2.1))
    assert found.over_default is not None
    over = found.over_default
    assert (over.share, over.low, over.high) == pytest.approx((1.0, 0.5, 2.0))
    assert in_unit(standing, margins, of(-1.0)).over_default is None


def test_remeasured_values_count(tmp_path: Path) -> None:
    play(tmp_path)
    lines = read(tmp_path)
    again = {tier.tier: tier for tier in remeasured(CONFIRMED, lines)}
    found = [
        gain
        for gain in gains(CONFIRMED, searched(lines), again)
        if gain.tier in again and gain.share is not None and not gain.is_default
    ]
    assert found
    for gain in found:
        assert gain.share is not None
        assert gain.remeasured
        chosen = again[gain.tier].chosen
        assert chosen is not None
        assert gain.best == chosen.standing.mean
        over = chosen.standing.over_default
        assert over is not None
        assert gain.share == pytest.approx(1 - 1 / (1 + over.share))
        assert gain.interval is not None
        assert gain.interval[0] <= gain.share <= gain.interval[1]
        shown = " to ".join(f"{1 / (1 - each) - 1:+.1%}" for each in gain.interval)
        assert shown in report_of(tmp_path, CONFIRMED)
    text = report_of(tmp_path, CONFIRMED)
    assert "repeats of the best" in text
    assert "…" not in text


@pytest.mark.parametrize("eliminated", [None, 2])
def test_a_race_may_show_a_gain_whose_size_is_open(tmp_path: Path, eliminated: int | None) -> None:
    play(tmp_path)
    lines = read(tmp_path)
    (tier, chosen) = next(
        (tier, tier.chosen)
        for tier in remeasured(CONFIRMED, lines)
        if tier.chosen and not tier.chosen.candidate.is_default
    )
    open_gain = replace(chosen.standing, over_default=Ratio(0.1, -0.02, 0.24), out_after=None)
    rows = tuple(
        replace(row, standing=open_gain)
        if row is chosen
        else replace(row, standing=replace(row.standing, out_after=eliminated))
        for row in tier.rows
    )
    again = {tier.tier: replace(tier, rows=rows)}
    (gain,) = (g for g in gains(CONFIRMED, searched(lines), again) if g.tier == tier.tier)
    assert gain.interval is not None
    assert gain.interval[0] < 0
    assert gain.beats is (eliminated is not None)
    out = io.StringIO()
    show_payback(CONFIRMED, lines, again, "", Console(file=out, width=80))
    said = f"{tier.tier}: the best beat the default; by how much is not known yet"
    assert (said in out.getvalue()) is gain.beats
    assert (f"{tier.tier}: no gain over the default is shown" in out.getvalue()) is not gain.beats


def test_the_report_fits_and_states_costs(tmp_path: Path) -> None:
    config = sample_config()
    sample_study(tmp_path, config)
    text = report_of(tmp_path, config)
    walls_s = [entry.result.timings.wall_s for entry in results(tmp_path)]
    price = config.hardware.usd_per_device_hour
    assert price is not None
    hours = sum(walls_s) / 3600
    took = f"{number(hours)} host-hours, {usd(hours * price.value)}"
    assert f"It took 10 trials (2 failed), {took}" in text.replace("\n", " ")
    assert "…" not in text
    once = [gain for gain in gains(config, results(tmp_path), {}) if gain.share]
    assert once
    assert "one run each, so no gain is stated" in text
    table = text[text.index("tier ") : text.index("one run each, so")]
    assert "%" not in table  # measured once, a gain is no fact
    assert "search.confirm.candidates=2" in text
    assert "The search ended" not in text


def test_the_report_states_why_a_search_ended(tmp_path: Path) -> None:
    assert "The search ended: enough." in report_of(ledger_of(tmp_path / "a", {}), CONFIG, "enough")
    config = landscape(SearchConfig(kind="random", trials=9, budget=Budget(device_hours=0.35)))
    with Ledger.open(tmp_path / "b") as ledger:
        study = Study(config, ledger, [])
        while proposal := study.ask():
            study.finished(proposal.number, measured(config, proposal))
    assert "The search ended: budget: 0.300 of 0.35 device-hours" in report_of(
        tmp_path / "b", config
    )


def test_a_default_that_failed_is_no_default_to_gain_over(tmp_path: Path) -> None:
    failed = Failed(trial_config(CONFIG, {}), "OutOfMemory", "no room", Timings(1, 1, 0))
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(0, {}, Measured(failed, {}))
        ledger.finished(1, BEST, Measured(result_of(CONFIG, BEST), {}))
    bulk = gains(CONFIG, results(tmp_path), {})[0]
    assert bulk.share is None
    assert bulk.unavailable == "the default of llamacpp (trial 0) failed: OutOfMemory"


def cautions_of(default: Completed, best: Completed) -> list[str]:
    return list(default_cautions(CONFIG.slo, "bulk", default, best))


def test_a_default_that_no_one_would_run_is_said_beside_the_gain(tmp_path: Path) -> None:
    default, best = result_of(CONFIG, {}), result_of(CONFIG, BEST)
    assert cautions_of(default, best) == []  # the landscape is loaded to its limit

    rising = tuple(
        replace(point, metrics={**point.metrics, "throughput_output_tok_s_device": 10.0**level})
        for level, point in enumerate(default.points)
    )
    (unloaded,) = cautions_of(replace(default, points=rising), best)
    assert unloaded.startswith("at its highest load, closed 8, the default still meets the tier")

    invalid = (replace(default.points[0], invalid_because=("late",)), *default.points[1:])
    assert cautions_of(replace(default, points=invalid), best) == [
        "1 of 4 levels of the default is not valid: late"
    ]

    vllm = Vllm(enable_prefix_caching=False)
    config = default.config.model_copy(
        update={"engine": vllm, "topology": Topology(cpus=2, tensor_parallel=2)}
    )
    found = cautions_of(replace(default, config=config), best)
    assert found[0] == "the prefix cache of the default is off"

    with Ledger.open(tmp_path) as ledger:
        for number, (point, points) in enumerate((({}, invalid), (BEST, best.points))):
            result = replace(result_of(CONFIG, point), points=points)
            ledger.finished(number, point, Measured(result, {}))
    text = report_of(tmp_path, CONFIG)
    assert "bulk: caution: 1 of 4 levels of the default is not valid: late." in text
