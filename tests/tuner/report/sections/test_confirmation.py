"""What is shown of re-measured candidates: in the report, while the study runs, and in MLflow."""

import io
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from tests.tuner.cli.fixtures import Captured, bare_machine
from tests.tuner.confirm.test_rounds import CONFIG, measured, play
from tests.tuner.samples.study import POINTS, sample_config
from tests.tuner.study.test_local_pool import SMALL, only_study
from tuner.analysis.recommendation import share
from tuner.cli.parser import main
from tuner.config.groups.objective import Axis, ObjectiveConfig
from tuner.config.study import StudyConfig
from tuner.confirm.ranking import Standing
from tuner.confirm.repeat import RepeatProposal
from tuner.confirm.results import in_unit, remeasured
from tuner.report.progress import Display
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger, read, searched
from tuner.results.tiers import Winner, best_per_tier
from tuner.search import Proposal
from tuner.study.study import Study
from tuner.tracking.observer import mirror, tracking_uri
from tuner.trial.result import Completed, Measured

__all__ = ["bare_machine"]


def report(folder: Path, config: StudyConfig = CONFIG, width: int = 100) -> str:
    out = io.StringIO()
    show_report(folder, config, Console(file=out, width=width))
    return out.getvalue()


def test_the_report_shows_the_best_its_probability_and_the_selection_bias(tmp_path: Path) -> None:
    play(tmp_path)
    said = report(tmp_path)
    for tier in remeasured(CONFIG, read(tmp_path)):
        assert f"Candidates repeated, {tier.tier}: throughput_output_tok_s_device" in said
        assert f"{tier.tier}: {tier.verdict.text}" in said
    assert "of the repeated" in said[said.index("Best of each tier") :]
    assert "intervals at 97%" in said
    assert "P(best)" in said
    assert "selection bias" in said
    assert said.count("(default)") >= 6


def test_the_tables_fit_a_narrow_screen(tmp_path: Path) -> None:
    play(tmp_path)
    said = report(tmp_path, width=80)
    tables = said[said.index("Candidates repeated, ") : said.index("Repeats:")]
    assert "…" not in tables


def test_a_search_without_repeats_has_no_such_section(tmp_path: Path) -> None:
    play(tmp_path, sample_config().model_copy(update={"search": CONFIG.search}), most=10)
    assert "Candidates repeated" not in report(tmp_path)


def test_an_unfinished_confirmation_names_no_best(tmp_path: Path) -> None:
    play(tmp_path, most=12)
    said = report(tmp_path)
    assert "undecided between" in said or "not repeated yet" in said
    assert "is best after" not in said


def lucky(proposal: Proposal) -> Measured:
    """As measured, but the search sees trial 6 30 % faster than it is."""
    found = measured(proposal)
    if isinstance(proposal, RepeatProposal) or proposal.point != POINTS[6]:
        return found
    assert isinstance(found.result, Completed)
    points = tuple(
        replace(
            point,
            metrics={
                name: value * 1.3 if value and name.startswith("throughput") else value
                for name, value in point.metrics.items()
            },
        )
        for point in found.result.points
    )
    return replace(found, result=replace(found.result, points=points))


def test_the_re_measured_best_is_recommended_though_the_search_scored_another_higher(
    tmp_path: Path,
) -> None:
    play(tmp_path, measure=lucky)
    entries = searched(read(tmp_path))
    found = best_per_tier(CONFIG.slo, CONFIG.objective, [each.result for each in entries])
    tiers = {tier.tier: tier for tier in remeasured(CONFIG, read(tmp_path))}
    bulk, best = tiers["bulk"].chosen, found["bulk"]
    assert isinstance(best, Winner)
    assert entries[best.index].number == 6
    assert bulk is not None
    assert bulk.candidate.of == 2
    said = report(tmp_path)
    assert "trial 2, llamacpp: best of the repeated" in said
    rest = said[said.index("Recommended for bulk") : said.index("Candidates repeated, bulk")]
    assert rest.splitlines()[1].startswith("trial 2, llamacpp")
    # Over all tiers, by re-measured values: nothing is above the best.
    means = {row.candidate.of: row.standing.mean or 0.0 for row in tiers["bulk"].rows}
    together = rest[rest.index("One configuration for all tiers") :].splitlines()
    number = int(together[1].split(",")[0].removeprefix("trial "))
    assert f"bulk {min(1, means[number] / means[2]):.0%}" in together[1]
    shares = [int(each) for each in re.findall(r" (\d+)%", together[1])]
    assert 80 <= min(shares) <= max(shares) <= 100


def test_a_share_of_the_best_is_one_of_the_figure() -> None:
    most, least = Axis(metric="tok"), Axis(metric="joules", direction="min")
    margin = Axis(metric="margin_usd_device_hour")
    assert share(most, 80.0, 100.0) == 0.8
    assert share(least, 0.5, 0.4) == 0.8
    assert share(margin, 1.0, 2.0) == 0.5
    assert share(margin, -1.0, 2.0) == 0.0
    assert (share(margin, -3.0, -1.0), share(margin, -1.0, -1.0)) == (0.0, 1.0)


def test_the_display_counts_no_repeat_as_a_trial_or_a_new_best(tmp_path: Path) -> None:
    out = io.StringIO()
    with Ledger.open(tmp_path) as ledger:
        display = Display(CONFIG, 1, Console(file=out, width=200))
        study = Study(CONFIG, ledger, [display])
        while proposal := study.ask():
            study.finished(proposal.number, measured(proposal))
    lines = out.getvalue().splitlines()
    first = next(i for i, line in enumerate(lines) if "round 1 of at most 5" in line)
    assert "trial 10 of 10" in "\n".join(lines[:first])
    assert "new best" in "\n".join(lines[:first])
    assert "new best" not in "\n".join(lines[first:])
    assert "trial 11" not in out.getvalue()
    assert "repeat: llamacpp" in "\n".join(lines[first:])


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::Warning")  # of mlflow's own dependencies
def test_mlflow_keeps_repeats_apart_from_points(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    play(folder)
    config = CONFIG.model_copy(update={"tracking": sample_config().tracking})
    mirror(folder, config)
    mirror(folder, config)  # nothing is written twice
    client = mlflow.MlflowClient(tracking_uri=tracking_uri(config.tracking, folder))
    experiment = client.get_experiment_by_name("wattfront")
    assert experiment is not None

    def runs(kind: str) -> list[mlflow.entities.Run]:
        found = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")
        return list(found)

    again = [e for e in read(folder) if e.repeat and e.result]
    assert len(runs("repeat")) == len(again)
    assert len(runs("trial")) == 10
    assert len(runs("point")) == 8 * 4
    assert {run.data.tags["round"] for run in runs("repeat")} >= {"0", "1", "2"}
    (study,) = runs("study")
    for tier in remeasured(config, read(folder)):
        assert tier.chosen is not None
        name = f"throughput_output_tok_s_device_in_{tier.tier}_confirmed"
        assert study.data.metrics[name] == pytest.approx(tier.chosen.standing.mean)
        assert study.data.tags[f"verdict.{tier.tier}"] == tier.verdict.text


def test_joules_a_token_are_shown_as_such() -> None:
    worth = Standing("a", 3, 0, mean=4.0, low=2.0, high=5.0, searched=8.0)
    joules = ObjectiveConfig(metric="energy_j_per_output_tok", direction="min")
    shown = in_unit(worth, joules)
    assert (shown.mean, shown.low, shown.high, shown.searched) == (0.25, 0.2, 0.5, 0.125)
    assert in_unit(worth, ObjectiveConfig()) == worth


@pytest.mark.process
def test_a_simulated_study_confirms_its_best(bare_machine: Path, capsys: Captured) -> None:
    confirm = ("search.confirm.candidates=1", "search.confirm.repeats_max=3")
    assert main(["simulate", *SMALL, *confirm, "search.trials=4", "--workers", "1"]) == 0
    assert "is best after 3 rounds" in capsys.readouterr().out
    again = [entry for entry in read(only_study(bare_machine)) if entry.repeat and entry.result]
    assert {entry.repeat.round for entry in again if entry.repeat} == {0, 1, 2}
    assert all(entry.result.provenance["modelled"] for entry in again if entry.result)
