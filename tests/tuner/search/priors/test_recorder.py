"""Predictions kept beside what was measured: by which prior, and in ledger, report and MLflow."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.samples.loaded import load
from tuner.config.groups.search import PriorConfig
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.report.sections.predictions import show_predictions
from tuner.results.ledger import Ledger, labelled_load, results
from tuner.search.factory import SearchSetup
from tuner.search.priors.recorder import METRICS
from tuner.search.priors.twin import NoPrediction, predicted_curve
from tuner.study.local_pool import simulate
from tuner.study.study import Study
from tuner.tracking.runs import point_run
from tuner.trial.result import Completed, Failed, Measured, OperatingPoint, Timings

SPEED = "interactivity_tok_s_user"
STUDY = [
    "experiment=b300", "engine=vllm", "space=none", "search=list",
    "workload.arrival.concurrency=[8,64]",
]  # fmt: skip


def study(*overrides: str) -> StudyConfig:
    return load([*STUDY, *overrides])


def measured(config: StudyConfig, *loads: str) -> Measured:
    points = tuple(
        OperatingPoint(i, load, {SPEED: 50.0}, load_value=labelled_load(load))
        for i, load in enumerate(loads)
    )
    done = Completed(trial_config(config, {}), points, Timings(1, 1, 1), "")
    return Measured(done, {})


def predictions(config: StudyConfig, *loads: str) -> list[dict[str, float]]:
    result = SearchSetup(config).recorder().recorded({}, measured(config, *loads)).result
    assert isinstance(result, Completed)
    return [dict(each.predicted) for each in result.points]


def after(config: StudyConfig, prior: PriorConfig) -> StudyConfig:
    search = config.search.model_copy(update={"prior": prior})
    return config.model_copy(update={"search": search})


def real(config: StudyConfig) -> StudyConfig:
    """The same hardware as if it were there."""
    hardware = config.hardware.model_copy(update={"twin": None})
    return config.model_copy(update={"hardware": hardware})


def test_a_twin_is_predicted_by_its_closed_form_at_the_measured_loads() -> None:
    config = study()
    curve = predicted_curve(trial_config(config, {}))
    assert not isinstance(curve, NoPrediction)
    by_load = {each.load: each.metrics for each in curve}
    found = predictions(config, "closed 8", "closed 64")
    for load_name, each in zip(("closed 8", "closed 64"), found, strict=True):
        assert set(each) == set(METRICS)
        assert each == pytest.approx({name: by_load[load_name][name] for name in METRICS})
    assert found[0][SPEED] > found[1][SPEED]


def test_real_hardware_is_predicted_as_the_system_that_the_prior_names() -> None:
    config = study()
    like = after(real(config), PriorConfig(kind="twin", system="b300_sxm"))
    assert predictions(real(config), "closed 8") == [{}]
    assert predictions(like, "closed 8") == [pytest.approx(predictions(config, "closed 8")[0])]


def test_a_roofline_is_an_upper_bound_and_has_no_energy() -> None:
    config = after(study(), PriorConfig(kind="roofline"))
    (roofline,), (twin,) = predictions(config, "closed 8"), predictions(study(), "closed 8")
    assert set(roofline) == set(METRICS) - {"energy_j_per_output_tok"}
    assert roofline[SPEED] > twin[SPEED]


def test_changing_loads_and_failed_trials_have_no_prediction() -> None:
    config = study()
    assert predictions(config, "ramp 1 to 8/s") == [{}]
    assert predictions(config, "ramp 1 to 8/s", "closed 8")[1]
    failed = Measured(Failed(trial_config(config, {}), "OutOfMemory", "", Timings(1, 1, 1)), {})
    assert SearchSetup(config).recorder().recorded({}, failed) is failed


@pytest.mark.process
def test_predictions_are_in_the_ledger_in_the_report_and_in_mlflow(tmp_path: Path) -> None:
    config = study("search.points=[{engine.vllm.max_num_seqs: 8}]", "search.trials=2")
    with Ledger.open(tmp_path) as ledger:
        simulate(Study(config, ledger, []), workers=1)
    entries = results(tmp_path)
    default, other = (each.result for each in entries)
    assert isinstance(default, Completed)
    assert isinstance(other, Completed)
    kept = [dict(each.predicted) for each in default.points]
    assert kept == [pytest.approx(each) for each in predictions(config, "closed 8", "closed 64")]
    assert other.points[1].predicted[SPEED] > 1.5 * default.points[1].predicted[SPEED]
    console = Console(record=True, width=100, file=StringIO())
    show_predictions(config, entries, console)
    row = next(line for line in console.export_text().splitlines() if SPEED in line)
    valid = [each for each in (*default.points, *other.points) if each.valid]
    assert row.split()[1] == str(len(valid))
    run = point_run(config, "s", entries[0], default.points[0])
    assert run.metrics[f"predicted/{SPEED}"] == default.points[0].predicted[SPEED]
    assert run.metrics[SPEED] == default.points[0].metrics[SPEED]
