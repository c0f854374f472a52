"""A report of many trials: what it reads, fits, draws and lists is bounded."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.samples.made import made_ledger, made_study
from tuner.analysis import surrogate
from tuner.report.plots import pareto_data
from tuner.report.sections.failures import LISTED
from tuner.report.summary import show_report
from tuner.results import reader
from tuner.results.ledger import results
from tuner.results.pareto import pareto_set
from tuner.search.curve.gp import Observations
from tuner.search.curve.subset import MAX_CURVES
from tuner.trial.result import Completed

pytestmark = pytest.mark.thorough

TRIALS = 260
STUDY = made_study(TRIALS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("grown")
    made_ledger(made, STUDY, TRIALS)
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> str:
    return said(folder)


def said(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_report(folder, STUDY, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_ledger_is_read_once_and_the_model_fitted_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, fits = list[str](), list[int]()
    read_bytes, fit = reader.ledger_bytes, surrogate.fit

    def counted_bytes(study: Path) -> bytes:
        reads.append(str(study))
        return read_bytes(study)

    def counted_fit(dimensions: object, seen: Observations, *rest: object) -> object:
        fits.append(len(seen.x))
        return fit(dimensions, seen, *rest)

    monkeypatch.setattr(reader, "ledger_bytes", counted_bytes)
    monkeypatch.setattr(surrogate, "fit", counted_fit)
    said(folder)
    assert len(reads) == 1
    assert fits == [MAX_CURVES]


def test_it_says_how_many_trials_the_model_is_fitted_to(folder: Path, whole: str) -> None:
    text = " ".join(whole.split())
    found = re.search(r"check of the model over (\d+) trials: rank correlation (0\.\d+)", text)
    assert found is not None
    assert int(found[1]) == sum(isinstance(e.result, Completed) for e in results(folder))
    assert float(found[2]) > 0.8
    assert f"The model is fitted to {MAX_CURVES} of them: the best, and an even sample" in text


def test_some_curves_are_drawn_the_front_among_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pareto_data, "MAX_CURVES", 20)
    entries = results(folder)
    drawn = pareto_data.pareto_data(STUDY, entries)
    measured = [e for e in entries if isinstance(e.result, Completed)]
    front = {
        measured[f.index].number
        for f in pareto_set([e.result for e in measured], STUDY.objective.axes)
    }
    numbers = {curve.number for curve in drawn.curves}
    assert front | {point.number for point, _ in drawn.best} <= numbers
    assert len(numbers) < 20 + len(front) + len(drawn.best) + 2
    assert f"{len(numbers)} of them drawn" in drawn.subtitle
    monkeypatch.setattr(pareto_data, "MAX_CURVES", TRIALS)
    assert "drawn" not in pareto_data.pareto_data(STUDY, entries).subtitle


def test_long_lists_end_with_how_many_more_there_are(
    folder: Path, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = sum(not isinstance(e.result, Completed) for e in results(folder))
    assert 4 < failed < LISTED
    assert "more, which are in the ledger" not in whole
    monkeypatch.setattr("tuner.report.sections.failures.LISTED", 4)
    text = said(folder)
    assert f"Failed: {failed} of {TRIALS} trials" in text
    assert f"and {failed - 4} more, which are in the ledger: OutOfMemory ({failed - 4})" in text
