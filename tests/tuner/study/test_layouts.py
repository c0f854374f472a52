"""Layouts that no node of the cluster holds: never proposed, by any search, nor after a resume."""

from pathlib import Path

import pytest

from tests.tuner.samples.loaded import load
from tests.tuner.samples.made import made_measured
from tuner.cli.exit_codes import Missing
from tuner.cli.preflight import check_placement, limit_layouts
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger, read
from tuner.results.ledger import results as results_of
from tuner.study.capacity import Capacity
from tuner.study.study import Study
from tuner.trial.result import Failed

FOUR, TWO = Capacity(((4, 1),)), Capacity(((2, 1),))
BASE = (
    "experiment=b300_vllm",
    "topology=tp2",
    "search.confirm.candidates=0",
    "search.prior.kind=none",
    "space.parameters.topology.tensor_parallel.choices=[1,2,4,8]",
)


def study_of(kind: str, trials: int) -> StudyConfig:
    startup = ["search.startup_trials=4"] if kind in ("tpe", "nsga2", "curve") else []
    return load([*BASE, f"search={kind}", f"search.trials={trials}", *startup])


def run(folder: Path, config: StudyConfig, capacity: Capacity, most: int | None = None) -> str:
    """Returns the line about layouts that fit no node. `most`: stops after so many trials."""
    with Ledger.open(folder) as ledger:
        note = limit_layouts(config, ledger, capacity)
        study = Study(config, ledger, [])
        if ledger.limits:
            study.limit(capacity.largest)
        while (most is None or len(ledger.results()) < most) and (proposal := study.ask()):
            study.finished(proposal.number, made_measured(proposal))
    return note


def layouts(folder: Path) -> list[int]:
    return [each.result.config.topology.gpus for each in results_of(folder)]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["random", "tpe", "qmc", "curve"])
def test_no_search_proposes_them(tmp_path: Path, kind: str) -> None:
    note = run(tmp_path, study_of(kind, 12), FOUR)
    assert note.startswith("1 of 4 layouts of the space")
    assert "the largest has 4 GPUs and 1 CPU cores" in note
    assert len(layouts(tmp_path)) == 12
    assert max(layouts(tmp_path)) == 4


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["random", "tpe", "curve"])
def test_a_study_whose_node_was_lost_resumes_as_the_undisturbed_one(
    tmp_path: Path, kind: str
) -> None:
    """The limit changes after 6 trials, and the study is stopped and resumed after 9."""
    config, whole, parts = study_of(kind, 12), tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        run(folder, config, FOUR, most=6)
    run(whole, config, TWO)
    run(parts, config, TWO, most=9)
    run(parts, config, TWO)
    assert max(layouts(whole)[6:]) == 2
    points = [[(e.number, e.point) for e in read(folder)] for folder in (whole, parts)]
    assert points[0] == points[1]


@pytest.mark.thorough
def test_a_space_of_which_nothing_fits_ends_with_the_reason(tmp_path: Path) -> None:
    config = study_of("random", 4)
    with Ledger.open(tmp_path) as ledger:
        limit_layouts(config, ledger, FOUR)
        study = Study(config, ledger, [])
        study.limit((0, 1))
        assert study.ask() is None
        assert study.ended.endswith("fits the cluster's largest node (0 GPUs, 1 CPU cores)")


def test_a_trial_without_a_node_is_a_failure_that_is_not_tried_again(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        study = Study(study_of("random", 4), ledger, [])
        proposal = study.ask()
        assert proposal is not None
        study.unplaced(proposal.number, "no node is left that holds 8 GPUs")
        (entry,) = ledger.results()
        assert isinstance(entry.result, Failed)
        assert entry.result.failure == "NodeLost"
        following = study.ask()
        assert following is not None
        assert following.number != proposal.number


def test_what_was_asked_for_by_name_is_refused_before_the_study() -> None:
    config = study_of("random", 4)
    check_placement(config, FOUR)
    with pytest.raises(Missing, match="trial 0: no node can hold a trial that needs 2 GPUs"):
        check_placement(config, Capacity(((1, 1),)))
