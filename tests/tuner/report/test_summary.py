"""The report says what the ledger says, on a terminal and in a pipe."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.samples.study import FAILED, POINTS, sample_config, sample_result, sample_study
from tuner.config.groups.objective import ObjectiveConfig, Slo, Tier
from tuner.config.groups.search import ConfirmConfig
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger
from tuner.trial.result import Completed, Failed, Measured, Timings

CONFIG = sample_config()


def report_text(folder: Path, config: StudyConfig, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    show_report(folder, config, Console(file=out, width=width, force_terminal=terminal))
    return out.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "sample"
    sample_study(folder, CONFIG)
    return folder


def test_a_pipe_gets_plain_text(study: Path) -> None:
    assert "\x1b" not in report_text(study, CONFIG)


def test_on_eighty_columns_no_cell_is_cut(study: Path) -> None:
    text = report_text(study, CONFIG)
    assert "…" not in text
    tables = [line for line in text.splitlines() if not line.startswith("trial ")]
    front = tables[tables.index(next(x for x in tables if x.startswith("Pareto"))) :][:12]
    assert all(len(line) <= 80 for line in front)
    assert re.search(r"2  llamacpp +closed 8 +206 +28\.5 ", text)


def test_the_front_is_shown_with_its_configurations_and_constants(study: Path) -> None:
    text = report_text(study, CONFIG, width=160)
    assert re.search(r"8 +llamacpp +parallel=1 threads=2", text)
    assert "$0.09 per host-hour: an invented price list, 2026-11-01" in text
    assert "0.065 kW per host, provisioned" in text


def test_without_constants_no_figure_is_derived_from_them(tmp_path: Path) -> None:
    config = sample_config(priced=False)
    sample_study(tmp_path, config)
    text = report_text(tmp_path, config)
    assert "Mtok" not in text
    assert "MW" not in text


def test_a_target_in_joules_has_a_column_and_a_footnote(tmp_path: Path) -> None:
    joules = ObjectiveConfig(metric="energy_j_per_output_tok", direction="min")
    config = CONFIG.model_copy(update={"objective": joules})
    sample_study(tmp_path, config)
    text = report_text(tmp_path, config)
    assert re.search(r"TTFT +TTFT +TPOT +\$ +J\n", text)
    assert re.search(r"p50 +p99 +p50 +/Mtok +/tok\n", text)
    assert "J: metered energy of GPU boards, gross, per output token" in " ".join(text.split())


def test_failures_are_shown_with_class_evidence_and_log(study: Path) -> None:
    text = re.sub(r"\s+", " ", report_text(study, CONFIG, width=200))
    assert "Failed: 2 of 10 trials" in text
    for failure, evidence in FAILED.values():
        assert failure in text
        assert evidence in text
    assert "engine.log" in text


def test_failed_attempts_are_counted_apart_and_change_no_other_count(study: Path) -> None:
    before = report_text(study, CONFIG)
    config = trial_config(CONFIG, POINTS[0])
    with Ledger.open(study) as ledger:
        ledger.asked(99, POINTS[0], config.fingerprint)
        for failure in ("WorkerDied", "EngineRestarted", "WorkerDied"):
            died = Failed(config, failure, "gone", Timings(1, 0, 0))
            ledger.attempted(99, POINTS[0], Measured(died, {"engine.log": b"last words"}))
    after, line = (
        report_text(study, CONFIG),
        "3 failed attempts of machines, after which trials ran",
    )
    assert f"{line} again: EngineRestarted 1, WorkerDied 2" in " ".join(after.split())
    assert "Failed: 2 of 10 trials" in " ".join(before.split())
    assert "Failed: 2 of 10 trials" in " ".join(after.split())
    found = [path.read_bytes() for path in study.glob("trials/099-*/attempt-*/engine.log")]
    assert found == [b"last words"] * 3


def test_tiers_show_their_best_or_the_closest(study: Path) -> None:
    text = report_text(study, CONFIG, width=200)
    assert re.search(r"premium .*trial 6, llamacpp, closed 2", text)
    assert re.search(r"instant .*not met; the closest level is closed 1: ttft_p99_ms 18\.2", text)


def precise() -> StudyConfig:
    """The same study on a machine whose starts hardly differ."""
    confirm = ConfirmConfig(noise=0.001)
    search = CONFIG.search.model_copy(update={"confirm": confirm})
    return CONFIG.model_copy(update={"search": search})


def test_each_tier_gets_one_command_that_can_be_copied(study: Path) -> None:
    lines = report_text(study, precise(), terminal=False).splitlines()
    at = lines.index("Recommended for bulk, standard")
    assert lines[at + 1].startswith("trial 2, llamacpp: parallel=8")
    assert lines[at + 2].startswith("Its answers were not compared with the default's: ")
    assert lines[at + 3] == "llamacpp-serve --model '/models/SmolLM2 135M.gguf' --number 2"
    assert sum(line.startswith("Recommended for ") for line in lines) == 2  # the other: premium


def test_a_compromise_is_shown_only_where_it_costs_each_tier_little(study: Path) -> None:
    lines = report_text(study, precise(), terminal=False).splitlines()
    at = lines.index("One configuration for all tiers")
    assert "bulk 100%, standard 100%, premium 93% of the best" in lines[at + 1]


def test_a_gain_that_may_be_noise_is_not_recommended(study: Path) -> None:
    """The best is 12 % above the default, each measured once; starts may differ by 3 %."""
    text = report_text(study, CONFIG, terminal=False)
    (line,) = [each for each in text.splitlines() if "nothing beats the default" in each]
    assert line.startswith("bulk, standard, premium: ")
    assert re.search(r"the smallest gain that could have been seen is 1\d\.\d%", line)
    assert "trial 0, llamacpp: as configured" in text
    assert "what to change" not in text


def test_the_first_trials_overhead_is_shown_apart(study: Path) -> None:
    text = report_text(study, CONFIG)
    assert "overhead 1.90 s; overhead of the first trial: 8.10 s." in text


def test_paths_are_those_of_files(study: Path) -> None:
    text = report_text(study, CONFIG)
    for name in ("pareto.html", "pareto.png", "ledger.jsonl"):
        assert str(study / name) in text
        assert (study / name).is_file()


def test_no_feasible_configuration_is_shown_and_returned(tmp_path: Path) -> None:
    impossible = Slo(tiers={"now": Tier(ttft_p99_ms=0.001)})
    config = CONFIG.model_copy(update={"slo": impossible})
    sample_study(tmp_path, config)
    out = io.StringIO()
    assert not show_report(tmp_path, config, Console(file=out, width=100))
    assert "No configuration meets the SLO of any tier." in out.getvalue()
    assert "Recommended" not in out.getvalue()


def test_only_failures_or_no_trial_makes_a_report_too(tmp_path: Path) -> None:
    sample_study(tmp_path / "failed", CONFIG, range(4, 6))
    assert "There is nothing to compare" in report_text(tmp_path / "failed", CONFIG)
    (tmp_path / "empty").mkdir()
    assert "There is nothing to compare" in report_text(tmp_path / "empty", CONFIG)


def test_invalid_points_are_counted_and_modelled_ones_marked(tmp_path: Path) -> None:
    trial = trial_config(CONFIG, POINTS[0])
    result = sample_result(trial, 0)
    assert isinstance(result, Completed)
    late = replace(result.points[3], invalid_because=("the client was late",))
    points, facts = (*result.points[:3], late), {"modelled": True}
    result = replace(result, points=points, provenance=facts)
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(0, POINTS[0], Measured(result, {}))
    text = report_text(tmp_path, CONFIG)
    assert "1 of 4 points left out as not valid: the client was late (1)" in text
    assert "Figures marked modelled come from an emulator" in text
    assert "0 modelled" in text


def test_a_single_trial_is_shown_with_every_level(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG, range(1))
    text = report_text(tmp_path, CONFIG)
    levels = text[text.index("All levels") : text.index("Configurations on the front")]
    assert [line.split()[1] for line in levels.splitlines() if line.startswith("closed ")] == [
        "1", "2", "4", "8",
    ]  # fmt: skip
    assert "All levels" not in report_text(study_of(tmp_path / "two", range(2)), CONFIG)


def test_a_load_that_ended_early_is_shown(tmp_path: Path) -> None:
    trial = trial_config(CONFIG, POINTS[0])
    result = sample_result(trial, 0)
    assert isinstance(result, Completed)
    cut = replace(result, cut_short="EndpointErrors: HTTP 500: stub says no")
    with Ledger.open(tmp_path) as ledger:
        ledger.asked(0, POINTS[0], trial.fingerprint)
        ledger.finished(0, POINTS[0], Measured(cut, {}))
    text = report_text(tmp_path, CONFIG, width=160)
    assert "trial 0: the load ended after 4 levels: EndpointErrors: HTTP 500: stub" in text


def study_of(folder: Path, numbers: range) -> Path:
    sample_study(folder, CONFIG, numbers)
    return folder
