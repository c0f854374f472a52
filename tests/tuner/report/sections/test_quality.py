"""The report says whose answers were compared, who is rejected, and what nobody knows."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.report.test_summary import report_text
from tests.tuner.trial.quality.gated_study import run, study_config
from tuner.config.study import StudyConfig
from tuner.report.sections.quality import show_quality
from tuner.results.ledger import results
from tuner.tracking.runs import point_run, trial_run
from tuner.trial.quality.prefix_cache import PREFIX_CACHE, RESET

ORDER = (1, 2, 3, 0)


def told(folder: Path, config: StudyConfig, width: int = 200) -> str:
    return re.sub(r"\s+", " ", report_text(folder, config, width=width))


def test_a_rejected_trial_is_shown_with_its_figure_and_wins_nothing(tmp_path: Path) -> None:
    config = study_config()
    run(tmp_path, config, ORDER)
    text = told(tmp_path, config)
    verdict = next(e.result.quality for e in results(tmp_path) if e.number == 1)  # type: ignore[union-attr]
    assert verdict is not None
    assert "Quality gate: greedy answers against trial 0's" in text
    assert f"{verdict.disagreement:.1%}" in text
    assert f"[{verdict.low:.1%}, {verdict.high:.1%}]" in text
    assert "2 rejected trials are on no front and in no tier." in text
    assert "limit 5.0% above the reference's own 0.0% when it answers again" in text
    recommended = text[text.index("Recommended for") :]
    assert "cache_type_k=q8_0" not in recommended
    known = {e.number: e for e in results(tmp_path)}
    data = trial_run(config, "s", known[1])
    assert data.tags["quality"] == "rejected"
    assert data.tags["quality_because"] == verdict.why
    assert data.metrics["quality_disagreement"] == verdict.disagreement
    point = known[1].result.points[0]  # type: ignore[union-attr]
    assert point_run(config, "s", known[1], point, {}).tags["status"] == "invalid"
    assert trial_run(config, "s", known[2]).tags.get("quality") is None


def test_tasks_are_shown_with_their_difference(tmp_path: Path) -> None:
    config = study_config(tasks=("sums",), max_disagreement=0.9)
    run(tmp_path, config, ORDER)
    text = told(tmp_path, config)
    known = {e.number: e for e in results(tmp_path)}
    verdict = known[1].result.quality  # type: ignore[union-attr]
    assert verdict is not None
    (task,) = verdict.tasks
    assert "Quality gate: tasks" in text
    assert f"[{task.low:+.1%}, {task.high:+.1%}]" in text
    data = trial_run(config, "s", known[1])
    assert data.metrics["quality_task_sums"] == task.score
    assert data.tags["quality_because"].startswith("sums: ")


def test_a_trial_that_passed_is_recommended_without_a_word(tmp_path: Path) -> None:
    config = study_config()
    run(tmp_path, config, ORDER, share=0.002)
    text = told(tmp_path, config)
    assert "passed" in text
    assert "cache_type_k=q8_0" in text[text.index("Recommended for") :]
    assert "were not compared" not in text


def test_what_was_not_compared_is_said_where_it_is_recommended(tmp_path: Path) -> None:
    config = study_config()
    off = config.model_copy(update={"quality": config.quality.model_copy(update={"check": "none"})})
    run(tmp_path, off, ORDER)
    text = told(tmp_path, off)
    why = "the quality gate was off (quality.check)"
    assert "2 trials change numerics (precision, KV cache type, kernels, engine)" in text
    assert f", and no answers were compared: {why}." in text
    recommended = text[text.index("Recommended for") :]
    assert f"Its answers were not compared with the default's: {why}." in recommended


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(tmp_path: Path, width: int) -> None:
    config = study_config()
    run(tmp_path, config, ORDER)
    text = report_text(tmp_path, config, width=width)
    part = text[text.index("Quality gate") : text.index("differs: share")]
    assert max(map(len, part.splitlines())) <= width


def test_a_prefix_cache_that_was_kept_is_said_once(tmp_path: Path) -> None:
    config, console = study_config(), Console(width=200, file=io.StringIO())
    run(tmp_path, config, ORDER)
    why = "kept between levels: llamacpp can't empty it"
    entries = [
        replace(e, result=replace(e.result, provenance={**e.result.provenance, PREFIX_CACHE: said}))
        for e, said in zip(results(tmp_path), (why, RESET, why, why), strict=True)
    ]
    show_quality(config, entries, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(f"llamacpp: prefix cache {why}.") == 1
