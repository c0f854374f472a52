"""A study that is killed anywhere, and one whose ledger lost lines, ends as the undisturbed one."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.samples.study import sample_config, sample_point
from tuner.config.groups.search import ConfirmConfig, SearchConfig
from tuner.config.groups.space import Int, Space
from tuner.config.study import StudyConfig
from tuner.results.ledger import LEDGER, Finished, Ledger, LedgerError, read
from tuner.search import Proposal
from tuner.study.local_pool import run_in_order
from tuner.study.study import Study
from tuner.trial.result import Completed, Measured, Timings

SPACE = Space(
    parameters={
        "engine.llamacpp.parallel": Int(type="int", low=1, high=16),
        "engine.llamacpp.threads": Int(type="int", low=1, high=8),
        "engine.vllm.max_num_seqs": Int(type="int", low=1, high=64),
    }
)
Row = tuple[Any, ...]


def config_of(kind: str, trials: int = 14, candidates: int = 0) -> StudyConfig:
    confirm = ConfirmConfig(candidates=candidates, repeats_min=2, repeats_max=3, seed=1)
    search = SearchConfig(
        kind=kind, trials=trials, startup_trials=4, prune_risk=0.1, confirm=confirm
    )
    config = sample_config(kind="none")
    return config.model_copy(update={"search": search, "space": SPACE})


def measured(proposal: Proposal) -> Measured:
    """A figure of the point; beside it what the trial was told of the others, which must not change either."""
    config, baseline = proposal.config, proposal.baseline
    chosen = [value for value in proposal.point.values() if isinstance(value, int)]
    speed = 5.0 + sum(chosen) % 7, 1.0 + len(chosen), 4.0, 10.0 + config.workload.seed % 5
    points = tuple(sample_point(config, level, speed) for level in range(4))
    told = repr(baseline) if baseline is not None else "no baseline"
    facts = {"clock": "virtual", "told": told}
    return Measured(Completed(config, points, Timings(9.0, 1.0, 8.0), "serve", facts), {})


def submitted(proposal: Proposal) -> "Future[Measured]":
    future: Future[Measured] = Future()
    future.set_result(measured(proposal))
    return future


def run(folder: Path, config: StudyConfig, workers: int) -> None:
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [])
        run_in_order(study, submitted, workers)
        study.conclude()


def steps(folder: Path) -> list[Row]:
    """Everything in the ledger but its times, in its order."""
    return [(e.number, dict(e.point), e.fingerprint, e.repeat, e.result) for e in read(folder)]


def table(folder: Path) -> list[Row]:
    results = [e for e in read(folder) if isinstance(e, Finished)]
    return sorted((e.number, sorted(e.point.items()), e.fingerprint) for e in results)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "workers", "candidates"),
    [("tpe", 1, 0), ("tpe", 3, 1), ("nsga2", 2, 0), ("qmc", 2, 0)],
)
def test_a_study_that_was_killed_anywhere_goes_on_as_if_it_had_not(
    tmp_path: Path, kind: str, workers: int, candidates: int
) -> None:
    config, whole = config_of(kind, candidates=candidates), tmp_path / "whole"
    run(whole, config, workers)
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    assert b'"complete"' in lines[-1]
    for kept in range(0, len(lines), 4):
        killed = tmp_path / f"killed-{kept}"
        killed.mkdir()
        torn = lines[kept][: len(lines[kept]) * (kept % 3) // 3]
        (killed / LEDGER).write_bytes(b"".join(lines[:kept]) + torn)
        run(killed, config, workers)
        assert steps(killed) == steps(whole)


@pytest.mark.parametrize("kind", ["random", "tpe"])
@pytest.mark.parametrize("lost", ["a result", "a trial", "a proposal", "every other result"])
def test_trials_that_the_ledger_has_lost_run_again(tmp_path: Path, kind: str, lost: str) -> None:
    config, whole, part = config_of(kind), tmp_path / "whole", tmp_path / "part"
    run(whole, config, 2)
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    of_5 = [line for line in lines if b'"number":5,' in line[:60]]
    asked = [line for line in of_5 if b'"asked"' in line[:20]]
    results = [line for line in lines if b'"completed"' in line[:24]]
    gone = {
        "a result": [line for line in of_5 if line not in asked],
        "a trial": of_5,
        "a proposal": asked,
        "every other result": results[::2],
    }[lost]
    assert gone
    part.mkdir()
    (part / LEDGER).write_bytes(b"".join(line for line in lines if line not in gone))
    run(part, config, 2)
    if lost == "a trial" and kind == "tpe":  # its point is lost too: another takes its place
        assert [row[0] for row in table(part)] == list(range(14))
        assert [row for row in table(whole) if row[0] != 5] == [
            row for row in table(part) if row[0] != 5
        ]
    else:
        assert table(part) == table(whole)


def test_results_in_any_order_are_the_same_table(tmp_path: Path) -> None:
    config, whole, part = config_of("tpe"), tmp_path / "whole", tmp_path / "part"
    run(whole, config, 2)
    part.mkdir()
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    (part / LEDGER).write_bytes(b"".join(lines[::-1]))
    run(part, config, 2)
    assert table(part) == table(whole)


def test_a_study_that_can_not_write_stops_and_keeps_what_it_measured(tmp_path: Path) -> None:
    """From the fifth result on there is no room, until the study has ended."""
    config, folder = config_of("qmc"), tmp_path / "study"
    run(tmp_path / "whole", config, 2)
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [])
        append, full = ledger._file.append, LedgerError("no room")

        def refuse(lines: bytes) -> None:
            if len(ledger.results()) > 4:
                raise full
            append(lines)

        ledger._file.append = refuse  # type: ignore[method-assign]
        run_in_order(study, submitted, 2)
        assert study.closed
        with pytest.raises(LedgerError, match="no room"):
            study.conclude()
        ledger._file.append = append  # type: ignore[method-assign]
    assert len(table(folder)) == 5
    run(folder, config, 2)
    assert table(folder) == table(tmp_path / "whole")


def test_only_a_study_that_ran_to_its_end_is_marked_complete(tmp_path: Path) -> None:
    config = config_of("qmc")
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [])
        proposal = study.ask()
        assert proposal is not None
        study.close()
        study.conclude()
    assert b'"complete"' not in (tmp_path / LEDGER).read_bytes()
    run(tmp_path, config, 1)
    assert b'"complete"' in (tmp_path / LEDGER).read_bytes()
    run(tmp_path, config, 1)
    assert (tmp_path / LEDGER).read_bytes().count(b'"complete"') == 1


def test_figures_are_rounded_before_anything_rests_on_them(tmp_path: Path) -> None:
    run(tmp_path, config_of("qmc", trials=3), 1)
    for entry in read(tmp_path):
        if entry.result is not None:
            assert isinstance(entry.result, Completed)
            for point in entry.result.points:
                values = [value for value in point.metrics.values() if value is not None]
                assert values == [float(f"{value:.10g}") for value in values]
