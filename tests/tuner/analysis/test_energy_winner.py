"""The configuration of the fewest joules is not the one of the most tokens: a study on the twin, end to end."""

from pathlib import Path

import pytest

from tuner.cli.parser import main
from tuner.config.groups.objective import ObjectiveConfig
from tuner.config.load import load_saved
from tuner.results.ledger import results
from tuner.results.tiers import Winner, best_per_tier

pytestmark = pytest.mark.process

OVERRIDES = (
    "experiment=b300_energy",
    "engine=vllm",
    "tracking=none",
    "space.parameters.topology.tensor_parallel.choices=[1]",
    "space.parameters.power.limit_w.choices=[600,1100]",
    "search.default_first=false",
    "search.trials=2",
    "workload.arrival.concurrency=[64,192]",
    "workload.output_tokens=128",
    "workload.level_s=10",
    "workload.warmup_s=5",
)


def test_the_winner_of_joules_is_another_than_that_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *OVERRIDES, "--workers", "1"]) == 0
    (folder,) = (tmp_path / "studies").iterdir()
    study, found = load_saved(folder), [entry.result for entry in results(folder)]
    assert (study.objective.metric, study.objective.direction) == (
        "energy_j_per_output_tok",
        "min",
    )
    frugal = best_per_tier(study.slo, study.objective, found)["bulk"]
    fast = best_per_tier(study.slo, ObjectiveConfig(), found)["bulk"]
    assert isinstance(frugal, Winner)
    assert isinstance(fast, Winner)
    assert frugal.index != fast.index
    limits = [found[each.index].config.power.limit_w for each in (frugal, fast)]
    assert limits == [600, 1100]
    for better, worse, metric, sign in (
        (frugal, fast, "energy_j_per_output_tok", -1),
        (fast, frugal, "throughput_output_tok_s_device", 1),
    ):
        one, other = (each.point.metrics[metric] for each in (better, worse))
        assert one is not None
        assert other is not None
        assert sign * (one - other) > 0
    said = capsys.readouterr().out
    assert "Best of each tier, by energy_j_per_output_tok" in said
    assert "The Goldilocks zone" in said
    assert frugal.point.metrics["facility_margin_usd_mw_year"] is not None
