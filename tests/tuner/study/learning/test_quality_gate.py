"""A study whose trials answer: who is compared with whom, when, and what follows from it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tuner.samples.landscape import landscape
from tests.tuner.trial.quality.gated_study import POINTS, Watcher, measured, run, study_config
from tuner.config.groups.search import ConfirmConfig, SearchConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.results.ledger import LEDGER, Finished, Ledger, results
from tuner.results.pareto import pareto_set
from tuner.results.reader import Reader
from tuner.search.outcome import QUALITY_REJECTED, outcome_of
from tuner.study.study import Study
from tuner.trial.quality.answers import FILE
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import ANSWERED, REJECTED, Completed, Failed, Measured, Timings


def verdicts(folder: Path) -> dict[int, str]:
    return {
        e.number: e.result.quality.kind
        for e in results(folder)
        if isinstance(e.result, Completed) and e.result.quality
    }


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1)])
def test_what_answers_otherwise_is_off_the_front_whatever_ends_first(
    tmp_path: Path, order: Sequence[int]
) -> None:
    config = study_config()
    run(tmp_path, config, order)
    assert verdicts(tmp_path) == {0: "reference", 1: "rejected", 3: "rejected"}
    found = [entry.result for entry in results(tmp_path)]
    front = pareto_set(found, config.objective.axes)
    # Trial 1 would have won by far.
    assert {each.result.config.fingerprint for each in front} <= {
        entry.fingerprint for entry in results(tmp_path) if entry.number in (0, 2)
    }
    rejected = next(e.result for e in results(tmp_path) if e.number == 1)
    assert isinstance(rejected, Completed)
    assert all(not point.valid for point in rejected.points)
    assert rejected.points[0].invalid_because[-1] == REJECTED
    assert rejected.quality is not None
    assert "of greedy tokens differ from trial 0's" in rejected.quality.why
    assert outcome_of(config, rejected).failure == QUALITY_REJECTED


def test_what_answers_alike_stays(tmp_path: Path) -> None:
    run(tmp_path, study_config(), (0, 1, 2, 3), share=0.005)
    assert verdicts(tmp_path) == {0: "reference", 1: "passed", 3: "passed"}
    assert all(
        point.valid
        for entry in results(tmp_path)
        if isinstance(entry.result, Completed)
        for point in entry.result.points
    )


def test_what_gets_a_task_wrong_is_off_the_front_though_it_answers_alike(tmp_path: Path) -> None:
    config = study_config(tasks=("sums",), max_disagreement=0.9)
    run(tmp_path, config, (1, 2, 3, 0))
    assert verdicts(tmp_path) == {0: "reference", 1: "rejected", 3: "rejected"}
    found = {e.number: e.result.quality for e in results(tmp_path)}  # type: ignore[union-attr]
    assert found[0] is not None
    assert (found[0].tasks[0].score, found[0].tasks[0].documents) == (0.5, 400)
    assert found[1] is not None
    (task,) = found[1].tasks
    assert task.reference == 0.5
    assert task.low < task.score - task.reference < task.high < 0
    assert found[1].why.startswith("sums: ")
    loose = study_config(tasks=("sums",), max_disagreement=0.9, max_task_loss=0.5)
    run(tmp_path / "loose", loose, (1, 2, 3, 0))
    assert verdicts(tmp_path / "loose") == {0: "reference", 1: "passed", 3: "passed"}


def test_a_task_that_was_not_run_leaves_its_trial_unknown(tmp_path: Path) -> None:
    config = study_config(tasks=("sums",), max_disagreement=0.9)
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposals = [p for _ in range(4) if (p := study.ask())]
        for number in range(4):
            made = measured(config, proposals[number], 0.0)
            files = {k: v for k, v in made.files.items() if number != 1 or k == FILE}
            study.finished(number, Measured(made.result, files))
    assert verdicts(tmp_path) == {0: "reference", 1: "unknown", 3: "passed"}
    found = next(e.result for e in results(tmp_path) if e.number == 1)
    assert isinstance(found, Completed)
    assert found.quality is not None
    assert found.quality.why == "tasks: tasks.json is missing"


def test_nothing_is_learned_of_a_trial_before_its_reference(tmp_path: Path) -> None:
    config, watcher = study_config(), Watcher()
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [watcher])
        proposals = [p for _ in range(4) if (p := study.ask())]
        for number, learned in ((1, []), (2, [2]), (3, [2]), (0, [2, 0, 1, 3])):
            study.finished(number, measured(config, proposals[number], 0.3))
            assert [seen for seen, _ in watcher.seen] == learned
            assert number in {e.number for e in ledger.results()}  # its line is written at once
    kinds = [
        r.quality.kind if isinstance(r, Completed) and r.quality else "" for _, r in watcher.seen
    ]
    assert kinds == ["", "reference", "rejected", "rejected"]


def test_a_study_that_is_killed_anywhere_comes_to_the_same_verdicts(tmp_path: Path) -> None:
    config, order = study_config(), (1, 2, 3, 0)
    run(tmp_path / "whole", config, order)
    lines = (tmp_path / "whole" / LEDGER).read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines) + 1):
        killed = tmp_path / f"killed-{kept}"
        killed.mkdir()
        for file in (tmp_path / "whole" / "trials").rglob(FILE):
            copy = killed / file.relative_to(tmp_path / "whole")
            copy.parent.mkdir(parents=True)
            copy.write_bytes(file.read_bytes())
        (killed / LEDGER).write_bytes(b"".join(lines[:kept]))
        run(killed, config, order)
        assert verdicts(killed) == verdicts(tmp_path / "whole"), kept
        kinds = [
            line for line in (killed / LEDGER).read_text().splitlines() if '"quality"' in line[:20]
        ]
        assert len(kinds) == 3, kept  # each verdict once


def test_a_reference_that_failed_leaves_them_unknown(tmp_path: Path) -> None:
    config = study_config()
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposals = [p for _ in range(4) if (p := study.ask())]
        study.finished(1, measured(config, proposals[1], 0.3))
        lost = Failed(proposals[0].config, "OutOfMemory", "no memory", Timings(1.0, 0.0, 0.0))
        study.finished(0, Measured(lost, {}))
        study.finished(3, measured(config, proposals[3], 0.3))
    found = {e.number: e.result for e in results(tmp_path)}
    assert isinstance(found[1], Completed)
    assert found[1].quality == QualityVerdict(
        "unknown", 0, "trial 0, the reference, failed: OutOfMemory"
    )
    assert found[1].points[0].valid
    assert verdicts(tmp_path) == {1: "unknown", 3: "unknown"}


def test_answers_that_are_missing_or_foreign_are_said(tmp_path: Path) -> None:
    config = study_config()
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposals = [p for _ in range(4) if (p := study.ask())]
        study.finished(0, measured(config, proposals[0], 0.3))
        whole = measured(config, proposals[1], 0.3)
        study.finished(1, Measured(whole.result, {FILE: b"{"}))
        completed = measured(config, proposals[3], 0.3).result
        assert isinstance(completed, Completed)
        silent = {ANSWERED: {"missing": "a prompt was refused with status 400: no"}}
        told = Completed(completed.config, completed.points, completed.timings, "serve", silent)
        study.finished(3, Measured(told, {}))
    whys = {
        e.number: e.result.quality.why
        for e in results(tmp_path)
        if isinstance(e.result, Completed) and e.result.quality
    }
    assert whys[1].startswith("answers.json is damaged: ")
    assert whys[3] == "a prompt was refused with status 400: no"


def test_a_study_without_its_default_says_so(tmp_path: Path) -> None:
    search = SearchConfig(kind="list", trials=3, points=POINTS, default_first=False)
    run(tmp_path, landscape(search), (0, 1, 2))
    found = [e.result for e in results(tmp_path) if isinstance(e.result, Completed)]
    whys = {each.quality.why for each in found if each.quality}
    assert whys == {"the study has tried no default to compare it with (search.default_first)"}


def test_a_reader_gets_a_trial_once_with_its_verdict(tmp_path: Path) -> None:
    config = study_config()
    reader, seen = Reader(tmp_path), list[Finished]()
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposals = [p for _ in range(4) if (p := study.ask())]
        for number in (1, 2, 0, 3):
            study.finished(number, measured(config, proposals[number], 0.3))
            seen += [each for each in reader.new() if isinstance(each, Finished)]
            if number == 2:
                assert [each.number for each in seen] == [2]
    assert sorted(each.number for each in seen) == [0, 1, 2, 3]
    by_number = {each.number: each for each in results(tmp_path)}
    assert all(by_number[each.number] == each for each in seen)


def test_a_study_that_ended_before_its_reference_is_read_whole(tmp_path: Path) -> None:
    config, reader = study_config(), Reader(tmp_path)
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposals = [p for _ in range(4) if (p := study.ask())]
        for number in (1, 2):
            study.finished(number, measured(config, proposals[number], 0.3))
    assert [e.number for e in reader.new() if isinstance(e, Finished)] == [2]
    assert [each.number for each in reader.undecided()] == [1]
    assert reader.undecided() == []


def test_repeats_are_not_asked_again(tmp_path: Path) -> None:
    confirm = ConfirmConfig(candidates=2, repeats_min=2, repeats_max=2)
    search = SearchConfig(kind="list", trials=4, points=POINTS, confirm=confirm)
    config, asked = landscape(search), dict[bool, list[bool]]()
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        while proposal := study.ask():
            repeats = isinstance(proposal, RepeatProposal)
            asked.setdefault(repeats, []).append(proposal.config.quality is not None)
            study.finished(proposal.number, measured(config, proposal, 0.0))
    assert sum(asked[False]) == 3
    assert len(asked[True]) >= 2
    assert not any(asked[True])
