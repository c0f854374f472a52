"""The best of a search re-measured: which trials, in which order, and at which loads."""

import json
from pathlib import Path

import pytest

from loadgen import Adaptive, Closed
from loadgen.workload.arrivals import Arrival, Poisson, Ramp
from serving.twin.config import TwinConfig
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
from tuner.config.groups.search import ConfirmConfig, Screening
from tuner.config.resolve import trial_config
from tuner.confirm.repeat import RepeatProposal, at_loads, repeat_config
from tuner.confirm.results import remeasured
from tuner.confirm.rounds import max_repeats
from tuner.results.ledger import LEDGER, Entry, Ledger, read, results, searched
from tuner.study.study import Study
from tuner.trial.result import Completed


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
        assert proposal.config.model_copy(update={"workload": back}) == first.model_copy(
            update={"quality": None}
        )
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
