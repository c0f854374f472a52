"""Repeats that fail, are disturbed or invalid; ledgers that are cut, lost lines, or are of other settings."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.confirm.playing import (
    CONFIG,
    CONFIRM,
    by_round,
    config_of,
    measured,
    play,
    repeats,
)
from tests.tuner.samples.study import POINTS
from tuner.confirm.repeat import RepeatProposal
from tuner.confirm.results import remeasured
from tuner.results.ledger import LEDGER, Finished, Ledger, Repeat, read
from tuner.search import Proposal
from tuner.study.study import ResumeError, Study
from tuner.trial.result import Completed, Failed, Measured, Timings


def test_a_candidate_that_always_fails_leaves_the_race(tmp_path: Path) -> None:
    def failing(proposal: Proposal) -> Measured:
        if isinstance(proposal, RepeatProposal) and proposal.repeat.of == 2:
            timings = Timings(1.0, 0.0, 0.0)
            return Measured(Failed(proposal.config, "StartTimeout", "never ready", timings), {})
        return measured(proposal)

    asked = repeats(play(tmp_path, measure=failing))
    assert len({proposal.config.fingerprint for proposal in asked}) == len(asked)
    rounds = by_round(list(asked))
    taken = [[p.repeat.of for p in ps].count(2) for _, ps in sorted(rounds.items())]
    assert taken[:3] == [2, 2, 2]  # each time it is tried once more
    assert not any(taken[3:])
    order = [proposal.repeat.of for proposal in asked]
    assert all(one != next_one for one, next_one in itertools.pairwise(order))
    rows = [r for t in remeasured(CONFIG, read(tmp_path)) for r in t.rows if r.candidate.of == 2]
    assert rows
    assert all(row.standing.failed == 6 and row.standing.p_best is None for row in rows)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_disturbance_of_one_repeat_is_measured_again_and_changes_nothing(
    tmp_path: Path, at_once: int
) -> None:
    """The first try of one repeat falls to a third, that of another fails."""

    def disturbed(proposal: Proposal) -> Measured:
        made, key = measured(proposal), getattr(proposal, "repeat", None)
        if key not in (Repeat(2, 3), Repeat(0, 3)) or key in seen:
            return made
        seen.add(key)
        if key == Repeat(0, 3):
            timings = Timings(1.0, 0.0, 0.0)
            return Measured(Failed(proposal.config, "EndpointErrors", "busy", timings), {})
        assert isinstance(made.result, Completed)
        slow = [
            replace(p, metrics={n: v and v / 3 for n, v in p.metrics.items()})
            for p in made.result.points
        ]
        return Measured(replace(made.result, points=tuple(slow)), {})

    seen: set[object] = set()
    config = config_of(CONFIRM.model_copy(update={"repeats_min": 5}))
    asked = repeats(play(tmp_path, config, at_once=at_once, measure=disturbed))
    assert seen == {Repeat(2, 3), Repeat(0, 3)}
    tries = [proposal.repeat for proposal in asked]
    assert {key for key in tries if tries.count(key) == 2} == seen
    for tier in remeasured(config, read(tmp_path)):
        for row in tier.rows:
            if row.candidate.of == 0:
                assert row.standing.failed == 1
            if row.standing.low is not None and row.standing.mean is not None:
                assert row.standing.low > 0.85 * row.standing.mean


@pytest.mark.parametrize("tries", [1, 2])
def test_an_invalid_best_level_is_no_lower_value(tmp_path: Path, tries: int) -> None:
    """The best load of trial 2 is invalid in that many tries a round: the next lower load is not its value."""

    def doubtful(proposal: Proposal) -> Measured:
        made = measured(proposal)
        if not isinstance(proposal, RepeatProposal) or proposal.repeat.of != 2:
            return made
        seen.append(proposal.repeat)
        if seen.count(proposal.repeat) > tries or not isinstance(made.result, Completed):
            return made
        top = max(p.load_value or 0 for p in made.result.points)
        points = tuple(
            replace(p, invalid_because=("unsteady",)) if p.load_value == top else p
            for p in made.result.points
        )
        return Measured(replace(made.result, points=points), {})

    seen: list[Repeat] = []
    play(tmp_path, measure=doubtful)
    tiers = {each.tier: each for each in remeasured(CONFIG, read(tmp_path))}
    (row,) = [row for row in tiers["bulk"].rows if row.candidate.of == 2]
    assert row.standing.failed == len([r for r in seen if seen.count(r) == 2]) / 2 * tries
    if tries == 1:
        assert row.standing.repeats >= CONFIRM.repeats_min
        assert row.standing.searched is not None
        assert row.standing.mean == pytest.approx(row.standing.searched, rel=0.1)
    else:
        assert row.standing.mean is None
        assert row.candidate.name != tiers["bulk"].verdict.chosen


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_confirmation_whose_ledger_lost_lines_goes_on(tmp_path: Path, at_once: int) -> None:
    """Every fifth line of its repeats is gone: what is left counts, and what is missing is measured again."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    play(whole, at_once=at_once)
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if json.loads(line).get("role") == "confirm")
    kept = [line for i, line in enumerate(lines) if i < first or i % 5 or b"base" in line[:12]]
    part.mkdir()
    (part / LEDGER).write_bytes(b"".join(line for line in kept if b'"complete"' not in line))
    asked = play(part, at_once=at_once)
    entries = read(part)
    numbers = [e.number for e in entries if isinstance(e, Finished) and e.repeat]
    assert len(numbers) == len(set(numbers))
    assert asked
    before = {t.tier: t.verdict.chosen for t in remeasured(CONFIG, read(whole))}
    assert {t.tier: t.verdict.chosen for t in remeasured(CONFIG, entries)} == before


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_resumed_confirmation_continues_as_it_would_have(tmp_path: Path, at_once: int) -> None:
    whole = tmp_path / "whole"
    asked = play(whole, at_once=at_once)
    lines = (whole / LEDGER).read_bytes().splitlines(keepends=True)
    for kept in range(2 * len(POINTS) + 1, len(lines), 7):
        part = tmp_path / f"part-{kept}"
        part.mkdir()
        (part / LEDGER).write_bytes(b"".join(lines[:kept]))
        entries = read(part)
        done = {entry.number for entry in entries if entry.result is not None}
        pending = [entry.number for entry in entries if entry.number not in done]
        with Ledger.open(part) as ledger:
            study = Study(CONFIG, ledger, [])
            reasked = [study.ask() for _ in pending]
            for number, proposal in zip(pending, reasked, strict=True):
                assert proposal == asked[number]
            if kept < len(lines) and json.loads(lines[kept])["status"] == "asked":
                assert study.ask() == asked[json.loads(lines[kept])["number"]]


def test_a_ledger_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    play(tmp_path, most=len(POINTS) + 3)
    other = config_of(CONFIRM.model_copy(update={"seed": 2}))
    with Ledger.open(tmp_path) as ledger, pytest.raises(ResumeError, match=r"of the ledger is"):
        Study(other, ledger, [])
