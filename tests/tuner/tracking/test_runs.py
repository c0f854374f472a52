"""Runs before they are written: what the engine reports of a level and of its start is in them."""

from dataclasses import replace
from pathlib import Path

from tests.tuner.samples.study import POINTS, sample_config, sample_result
from tuner.config.resolve import trial_config
from tuner.results.ledger import Finished, Ledger, results
from tuner.tracking.runs import point_run, trial_run
from tuner.trial.result import Completed, Measured

CONFIG = sample_config()


def entry(folder: Path) -> Finished:
    """Written and read again: the cache is full at the highest load, and the log times the start."""
    result = sample_result(trial_config(CONFIG, POINTS[3]), 3)
    assert isinstance(result, Completed)
    *few, many = result.points
    full = {**many.metrics, "engine_preemptions": 31.0, "requests_completed": 100.0}
    timings = replace(result.timings, weight_load_s=21.25, engine_warmup_s=None)
    points = (*few, replace(many, metrics=full))
    with Ledger.open(folder) as ledger:
        measured = Measured(replace(result, points=points, timings=timings), {})
        ledger.finished(3, POINTS[3], measured)
    (found,) = results(folder)
    return found


def test_parts_of_the_start_are_metrics_where_the_log_has_them(tmp_path: Path) -> None:
    found = entry(tmp_path)
    assert found.result.timings.engine_warmup_s is None
    run = trial_run(CONFIG, "study", found)
    assert run.metrics["weight_load_s"] == 21.25
    assert "engine_warmup_s" not in run.metrics


def test_a_point_has_its_sentence_and_its_metrics(tmp_path: Path) -> None:
    found = entry(tmp_path)
    assert isinstance(found.result, Completed)
    *few, many = (point_run(CONFIG, "study", found, each) for each in found.result.points)
    assert many.tags["limited_by"] == "KV cache full: 31 preemptions"
    assert many.metrics["engine_preemptions"] == 31
    assert not any("limited_by" in each.tags for each in few)
