"""The best of a search re-measured: which trials, in which order, at which loads, and from a torn ledger on."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadgen import Adaptive, Closed
from loadgen.workload.arrivals import Arrival, Poisson, Ramp
from serving.twin.config import TwinConfig
from tests.tuner.samples.study import POINTS, sample_config, sample_result
from tuner.config.groups.search import ConfirmConfig, Screening, SearchConfig
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal, at_loads, repeat_config
from tuner.confirm.results import remeasured
from tuner.confirm.rounds import max_repeats
from tuner.results.ledger import LEDGER, Entry, Finished, Ledger, Repeat, read, results, searched
from tuner.search import Proposal
from tuner.study.study import ResumeError, Study
from tuner.trial.result import Completed, Failed, Measured, Timings

CONFIRM = ConfirmConfig(candidates=2, repeats_min=3, repeats_max=5, seed=1)
Measure = Callable[[Proposal], Measured]


def config_of(confirm: ConfirmConfig = CONFIRM, **search: object) -> StudyConfig:
    points = tuple(dict(point) for point in POINTS[2:])
    kind = SearchConfig(kind="list", trials=len(POINTS), points=points, confirm=confirm)
    return sample_config().model_copy(update={"search": kind.model_copy(update=search)})


CONFIG = config_of()


def measured(proposal: Proposal) -> Measured:
    """What the sample study measures of a point, 2 % off by the trial's seed, at the loads asked for."""
    config, number = proposal.config, POINTS.index(proposal.point)
    result = sample_result(config, number)
    if isinstance(result, Failed):
        return Measured(result, {})
    seed = (config.workload.seed, number)
    factor = math.exp(np.random.default_rng(seed).normal(0, 0.02))
    assert isinstance(config.workload.arrival, Closed)
    loads = {f"closed {users}" for users in config.workload.arrival.concurrency}
    points = tuple(
        replace(
            point,
            metrics={
                name: value * factor if value and name.startswith("throughput") else value
                for name, value in point.metrics.items()
            },
        )
        for point in result.points
        if point.load in loads
    )
    return Measured(replace(result, points=points), {})


def play(
    folder: Path,
    config: StudyConfig = CONFIG,
    *,
    at_once: int = 1,
    most: int | None = None,
    measure: Measure = measured,
) -> list[Proposal]:
    """Runs the study, several trials at once, which end in an order of their own; up to `most` results."""
    random, asked, running = np.random.default_rng(3), list[Proposal](), list[Proposal]()
    with Ledger.open(folder) as ledger:
        study, ended = Study(config, ledger, []), 0
        while most is None or ended < most:
            while len(running) < at_once and (proposal := study.ask()):
                asked.append(proposal)
                running.append(proposal)
            if not running:
                assert study.remaining() == 0
                break
            done = running.pop(int(random.integers(len(running))))
            assert study.remaining() >= len(running) + 1
            study.finished(done.number, measure(done))
            ended += 1
    return asked


def repeats(asked: list[Proposal]) -> list[RepeatProposal]:
    return [proposal for proposal in asked if isinstance(proposal, RepeatProposal)]


def by_round(asked: list[Proposal]) -> dict[int, list[RepeatProposal]]:
    found: dict[int, list[RepeatProposal]] = {}
    for proposal in repeats(asked):
        found.setdefault(proposal.repeat.round, []).append(proposal)
    return found


@pytest.mark.parametrize("at_once", [1, 3])
def test_rounds_of_candidates_and_defaults_follow_the_search(tmp_path: Path, at_once: int) -> None:
    asked = play(tmp_path, at_once=at_once)
    numbers = [proposal.number for proposal in asked]
    assert numbers == list(range(len(asked)))
    again = repeats(asked)
    assert again == asked[len(POINTS) :]
    assert len(again) <= max_repeats(CONFIG)
    rounds = by_round(asked)
    assert CONFIRM.repeats_min <= len(rounds) <= CONFIRM.repeats_max
    for number, members in rounds.items():
        of = [proposal.repeat.of for proposal in members]
        assert len(set(of)) == len(of)
        assert {0, 1} <= set(of)  # the defaults of both engines
        (seed,) = {proposal.config.workload.seed for proposal in members}
        others = [p for r, ps in rounds.items() if r != number for p in ps]
        assert seed not in {proposal.config.workload.seed for proposal in others}
    orders = {tuple(p.repeat.of for p in members) for members in rounds.values()}
    assert len(orders) > 1
    assert len({proposal.config.fingerprint for proposal in asked}) == len(asked)


def test_no_more_than_two_rounds_are_open_at_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        study = Study(CONFIG, ledger, [])
        for _ in POINTS:
            proposal = study.ask()
            assert proposal is not None
            study.finished(proposal.number, measured(proposal))
        running = []
        while proposal := study.ask():
            running.append(proposal)
        assert by_round(running).keys() == {0, 1}
        first, *later = running
        study.finished(first.number, measured(first))
        assert study.ask() is None  # not now: the first round is still open
        for each in later:
            study.finished(each.number, measured(each))
        assert study.ask() is not None


def test_the_confirmation_waits_for_the_whole_search(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        study = Study(CONFIG, ledger, [])
        running = []
        while proposal := study.ask():
            running.append(proposal)
        assert len(running) == len(POINTS)
        for each in running:
            assert study.ask() is None
            study.finished(each.number, measured(each))
        assert isinstance(study.ask(), RepeatProposal)


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


def test_a_ledger_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    play(tmp_path, most=len(POINTS) + 3)
    other = config_of(CONFIRM.model_copy(update={"seed": 2}))
    with Ledger.open(tmp_path) as ledger, pytest.raises(ResumeError, match=r"of the ledger is"):
        Study(other, ledger, [])


def test_repeats_are_no_trials_of_the_search(tmp_path: Path) -> None:
    play(tmp_path)
    assert len(results(tmp_path)) == len(POINTS)
    entries = read(tmp_path)
    assert searched(entries) == results(tmp_path)
    again = [entry for entry in entries if entry.repeat]
    assert again
    lines = [json.loads(text) for text in (tmp_path / LEDGER).read_text().splitlines()]
    recorded = [line for line in lines if line.get("role") == "confirm"]
    assert len(recorded) == len(again)
    assert all({"of", "round"} <= line.keys() for line in recorded)
    searching = [line for line in lines if "role" not in line and "number" in line]
    assert len(searching) == 2 * len(POINTS)  # as ledgers were before there were repeats


def test_without_candidates_nothing_is_measured_again(tmp_path: Path) -> None:
    asked = play(tmp_path, config_of(ConfirmConfig()))
    assert len(asked) == len(POINTS)
    assert remeasured(CONFIG, read(tmp_path)) == []


def test_the_best_when_measured_again_is_named_in_each_tier(tmp_path: Path) -> None:
    play(tmp_path)
    tiers = {each.tier: each for each in remeasured(CONFIG, read(tmp_path))}
    assert set(tiers) == {"bulk", "standard", "premium"}  # no configuration meets `instant`
    for tier in tiers.values():
        names = [row.candidate.name for row in tier.rows]
        assert any("(default)" in name for name in names)
        assert tier.verdict.kind in ("best", "equal")
        p_best = [row.standing.p_best or 0 for row in tier.rows]
        assert sum(p_best) == pytest.approx(1)
        for row in tier.rows:
            assert row.standing.repeats >= CONFIRM.repeats_min
            mean, low, high = row.standing.mean, row.standing.low, row.standing.high
            assert low is not None
            assert mean is not None
            assert high is not None
            assert low < mean < high
            assert row.standing.selection_bias is not None
            if not row.candidate.is_default:
                own = f"{row.candidate.engine}"
                defaults = {r.candidate.engine for r in tier.rows if r.candidate.is_default}
                assert (row.standing.over_default is not None) == (own in defaults)


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


def test_a_default_that_was_not_tried_is_measured_beside_the_others(tmp_path: Path) -> None:
    points = tuple(dict(point) for point in (POINTS[1], *POINTS[2:]))
    config = config_of(default_first=False, trials=len(points), points=points)
    rounds = by_round(play(tmp_path, config))
    assert all(
        sum(p.repeat.of is None and p.point == {"engine": "llamacpp"} for p in ps) == 1
        for ps in rounds.values()
    )
    tiers = remeasured(config, read(tmp_path))
    rows = [row for tier in tiers for row in tier.rows if row.candidate.of is None]
    assert rows
    assert all(row.candidate.name == "llamacpp (default)" for row in rows)
    assert all(row.standing.selection_bias is None for row in rows)


def test_a_repeat_is_the_trial_with_another_seed_at_the_loads_that_matter(tmp_path: Path) -> None:
    for proposal in repeats(play(tmp_path)):
        first = trial_config(CONFIG, proposal.point)
        changed = proposal.config.workload
        assert changed.seed != first.workload.seed
        assert isinstance(changed.arrival, Closed)
        assert isinstance(first.workload.arrival, Closed)
        assert set(changed.arrival.concurrency) <= set(first.workload.arrival.concurrency)
        back = changed.model_copy(update={"seed": 0, "arrival": first.workload.arrival})
        assert proposal.config.model_copy(update={"workload": back}) == first
    whole = config_of(CONFIRM.model_copy(update={"loads": "all"}))
    for proposal in repeats(play(tmp_path / "all", whole)):
        assert proposal.config.workload.arrival == CONFIG.workload.arrival


def test_a_screened_search_is_confirmed_by_whole_measurements(tmp_path: Path) -> None:
    short = config_of(screening=Screening(level_s=1, level_max_s=2))
    asked = play(tmp_path, short)
    again = repeats(asked)
    assert again
    assert all(each.config.workload.level_s == CONFIG.workload.level_s for each in again)
    assert all(each.config.workload.level_max_s == CONFIG.workload.level_max_s for each in again)
    searched_levels = [each.config.workload.level_s for each in asked if each not in again]
    assert set(searched_levels) == {1}


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        (Closed(concurrency=(1, 2, 4, 8)), Closed(concurrency=(2, 8))),
        (
            Poisson(rate_per_s=(1, 2, 8), max_concurrency=9),
            Poisson(rate_per_s=(2, 8), max_concurrency=9),
        ),
        (Adaptive(), Closed(concurrency=(2, 8))),
        (
            Adaptive(loop="poisson", max_concurrency=9),
            Poisson(rate_per_s=(2, 8), max_concurrency=9),
        ),
        (Ramp(from_per_s=1, to_per_s=2, over_s=3), Ramp(from_per_s=1, to_per_s=2, over_s=3)),
    ],
)
def test_kinds_of_load_at_chosen_levels(arrival: Arrival, expected: Arrival) -> None:
    assert at_loads(arrival, (8.0, 2.0, 8.0)) == expected
    assert at_loads(arrival, ()) == arrival


def test_an_emulated_start_differs_too() -> None:
    first = trial_config(CONFIG, POINTS[0])
    hardware = first.hardware.model_copy(update={"twin": TwinConfig(system="b300_sxm", seed=4)})
    emulated = first.model_copy(update={"hardware": hardware})
    one, two = (repeat_config(emulated, (), 1, number) for number in (0, 1))
    assert one.hardware.twin is not None
    assert two.hardware.twin is not None
    assert len({4, one.hardware.twin.seed, two.hardware.twin.seed}) == 3
    assert repeat_config(emulated, (), 1, 0) == one


def test_entries_of_ledgers_without_roles_are_trials(tmp_path: Path) -> None:
    play(tmp_path, config_of(ConfirmConfig()))
    entries: list[Entry] = read(tmp_path)
    assert all(entry.repeat is None for entry in entries)
    assert sum(isinstance(entry.result, Completed) for entry in entries) == 8
