"""The fewest changes that keep the gain, measured after the races: chosen, recorded, judged, resumed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.tuner.samples.landscape import landscape, rate, result_of
from tuner.analysis.effects.ablation import (
    TRIALS_MAX,
    MeasuredChanges,
    is_ablation,
    max_ablations,
    measured_changes,
)
from tuner.config.groups.search import ConfirmConfig, SearchConfig
from tuner.config.groups.space import Point
from tuner.confirm.results import remeasured
from tuner.report.summary import show_report
from tuner.results.ledger import LEDGER, Entry, Finished, Ledger, read
from tuner.search import Proposal
from tuner.study.study import Study
from tuner.trial.result import Completed, Failed, Measured, Timings

CONFIRM = ConfirmConfig(candidates=1, repeats_min=2, repeats_max=3)
CONFIG = landscape(SearchConfig(kind="random", trials=16, seed=2, confirm=CONFIRM))
THREADS = "engine.llamacpp.threads"
Rate = Callable[[Point], float]


def gain_rate(point: Point) -> float:
    """Threads bring 30 each, the batch 1 or 2 in all, the cache's type nothing."""
    batch = float(point.get("engine.llamacpp.batch_size", 256))
    return 100 + 30 * (float(point.get(THREADS, 1)) - 1) + math.log2(batch / 256)


def measured(proposal: Proposal, of: Rate = gain_rate) -> Measured:
    """What the landscape gives, 0.3 % off by the trial's seed, at the loads asked for."""
    config = proposal.config
    result = result_of(CONFIG, proposal.point)
    noise = np.random.default_rng((config.workload.seed, proposal.number)).normal(0, 0.003)
    factor = math.exp(noise) * of(proposal.point) / rate(proposal.point)
    users = getattr(config.workload.arrival, "concurrency", ())
    points = tuple(
        replace(
            point,
            metrics={
                name: value * factor if value and "tok_s" in name else value
                for name, value in point.metrics.items()
            },
        )
        for point in result.points
        if point.load_value in users
    )
    return Measured(replace(result, config=config, points=points), {})


def play(
    folder: Path, measure: Callable[[Proposal], Measured] = measured, most: int | None = None
) -> list[Entry]:
    with Ledger.open(folder) as ledger:
        study, ended = Study(CONFIG, ledger, []), 0
        while (most is None or ended < most) and (proposal := study.ask()):
            assert study.remaining() > 0
            study.finished(proposal.number, measure(proposal))
            ended += 1
        if most is None:
            assert study.remaining() == 0
    return read(folder)


def ablations(entries: list[Entry]) -> list[Finished]:
    return [each for each in entries if isinstance(each, Finished) and is_ablation(each)]


def judged(entries: list[Entry]) -> Mapping[str, MeasuredChanges]:
    return measured_changes(CONFIG, entries, {t.tier: t for t in remeasured(CONFIG, entries)})


def test_the_changes_that_matter_are_measured_alone(tmp_path: Path) -> None:
    """Threads bring 90 of at most 92."""
    entries = play(tmp_path)
    made = ablations(entries)
    assert 1 <= len(made) <= max_ablations(CONFIG)
    first = made[0]
    assert first.repeat is not None
    best = next(e for e in entries if e.number == first.repeat.of)
    assert first.point.items() < best.point.items()
    assert THREADS in first.point
    assert max(entry.number for entry in entries) == made[-1].number  # after all repeats
    found = judged(entries)["bulk"]
    assert found.enough
    assert found.keeps is not None
    default, whole = gain_rate({}), gain_rate(best.point)
    true = (gain_rate(found.entry.point) - default) / (whole - default)
    assert found.keeps.low <= true <= found.keeps.high
    assert true >= 0.95


def test_races_do_not_count_an_ablation(tmp_path: Path) -> None:
    entries = play(tmp_path)
    without = [entry for entry in entries if not is_ablation(entry)]
    assert len(without) < len(entries)
    assert remeasured(CONFIG, entries) == remeasured(CONFIG, without)


def test_a_change_is_put_back_where_the_others_do_not_keep_the_gain(tmp_path: Path) -> None:
    """Whatever is taken back costs half of the rate, which the search never saw."""

    def spoiled(proposal: Proposal) -> Measured:
        repeat = getattr(proposal, "repeat", None)
        alone = repeat is not None and repeat.role == "ablation"
        return measured(proposal, (lambda point: gain_rate(point) / 2) if alone else gain_rate)

    made = ablations(play(tmp_path, spoiled))
    of = {entry.repeat.of for entry in made if entry.repeat is not None}
    for number in of:
        mine = [e for e in made if e.repeat is not None and e.repeat.of == number]
        assert len(mine) <= TRIALS_MAX
        sizes = [len(entry.point) for entry in mine]
        assert sizes == sorted(set(sizes))
    found = judged(read(tmp_path))["bulk"]
    assert not found.enough
    with (tmp_path / "report.txt").open("w") as out:
        show_report(tmp_path, CONFIG, Console(file=out, width=80))
    said = " ".join((tmp_path / "report.txt").read_text().split())
    assert "of the gain" in said
    assert "all changes are needed" in said
    assert "with the fewest changes, confirmed" not in said


def test_a_failed_ablation_confirms_nothing(tmp_path: Path) -> None:
    def failing(proposal: Proposal) -> Measured:
        repeat = getattr(proposal, "repeat", None)
        if repeat is None or repeat.role != "ablation":
            return measured(proposal)
        return Measured(Failed(proposal.config, "OutOfMemory", "none left", Timings(1, 0, 0)), {})

    entries = play(tmp_path, failing)
    assert ablations(entries)
    assert judged(entries)["bulk"].keeps is None
    assert not judged(entries)["bulk"].enough


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_study_that_stopped_at_an_ablation_goes_on_with_it(tmp_path: Path, back: int) -> None:
    whole = play(tmp_path / "whole")
    ended = sum(isinstance(entry, Finished) for entry in whole)
    play(tmp_path / "part", most=ended - back)
    again = play(tmp_path / "part")
    assert [(e.number, e.fingerprint, e.repeat) for e in again] == [
        (e.number, e.fingerprint, e.repeat) for e in whole
    ]
    lost = (tmp_path / "whole" / LEDGER).read_bytes().splitlines(keepends=True)
    (tmp_path / "whole" / LEDGER).write_bytes(b"".join(lost[:-1]))  # the last result
    assert [(e.number, e.repeat) for e in play(tmp_path / "whole") if e.result] == [
        (e.number, e.repeat) for e in whole if e.result
    ]


def test_the_ledger_marks_it_and_the_report_shows_its_command(tmp_path: Path) -> None:
    made = ablations(play(tmp_path))
    assert b'"role":"ablation"' in (tmp_path / LEDGER).read_bytes()
    assert all(isinstance(entry.result, Completed) for entry in made)
    with (tmp_path / "report.txt").open("w") as out:
        show_report(tmp_path, CONFIG, Console(file=out, width=80))
    said = (tmp_path / "report.txt").read_text()
    assert "The same with the fewest changes, confirmed" in said
    assert "what to change, confirmed: llamacpp.threads=4" in " ".join(said.split())


def test_without_confirmation_nothing_is_measured_again(tmp_path: Path) -> None:
    plain = landscape(SearchConfig(kind="random", trials=16, seed=2))
    assert max_ablations(plain) == 0
    with Ledger.open(tmp_path) as ledger:
        study = Study(plain, ledger, [])
        while proposal := study.ask():
            study.finished(proposal.number, measured(proposal))
    assert all(entry.repeat is None for entry in read(tmp_path))
