"""Races of candidates: the arithmetic against scipy and least squares, errors on simulated machines."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from tests.fuzz.examples import examples
from tests.tuner.samples.races import Machine, run_race
from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.race import (
    Race,
    after_round,
    failure_p_value,
    fit,
    leader,
    level_of,
    may_be_best,
    predictive_power,
    starts,
)
from tuner.confirm.ranking import verdict

CONFIG = ConfirmConfig(candidates=4)
DEFAULT = frozenset({"default"})


def table(rows: list[list[float | None]]) -> dict[str, dict[int, float | None]]:
    """A row for each candidate a, b, c…, a column for each round; None: no repeat in it."""
    return {
        "abcdefgh"[i]: {r: value for r, value in enumerate(row) if value is not None}
        for i, row in enumerate(rows)
    }


def drawn(seed: int, candidates: int = 3, rounds: int = 8, noise: float = 0.03) -> np.ndarray:
    random = np.random.default_rng(seed)
    rates = 100 * np.exp(random.normal(0, 0.05, (candidates, 1)))
    return np.asarray(rates * np.exp(random.normal(0, noise, (candidates, rounds))))


def to_end(values: Mapping[str, Mapping[int, float | None]], rounds: int) -> Race:
    race = Race(frozenset(values))
    for _ in range(rounds):
        race = after_round(race, values, CONFIG)
    return race


def test_two_candidates_are_a_paired_t_test() -> None:
    made = drawn(1, candidates=2)
    found = fit(table(made.tolist()), {"a", "b"}, 8)
    assert found is not None
    pair = found.difference("a", "b")
    known = stats.ttest_rel(np.log(made[0]), np.log(made[1]))
    assert pair.log_ratio / pair.error == pytest.approx(known.statistic)
    assert pair.freedom == known.df
    interval = known.confidence_interval(0.9)
    assert pair.bounds(0.05) == pytest.approx((interval.low, interval.high))


def test_rounds_with_gaps_are_least_squares_over_candidates_and_rounds() -> None:
    rows: list[list[float | None]] = drawn(2, candidates=4, rounds=6).tolist()
    rows[1][3:] = [None] * 3
    rows[2][0] = None
    found = fit(table(rows), set("abcd"), 6)
    assert found is not None
    cells = [(i, r, math.log(v)) for i, row in enumerate(rows) for r, v in enumerate(row) if v]
    design = np.zeros((len(cells), 4 + 6))
    for line, (i, r, _) in enumerate(cells):
        design[line, [i, 4 + r]] = 1
    logs = np.array([log for *_, log in cells])
    solved, _, rank, _ = np.linalg.lstsq(design, logs, rcond=None)
    residual = logs - design @ solved
    assert found.freedom == len(cells) - rank
    assert found.variance == pytest.approx(residual @ residual / found.freedom)
    covariance = np.linalg.pinv(design.T @ design)
    for i, j in ((0, 1), (1, 2), (3, 0)):
        pair, contrast = found.difference("abcd"[i], "abcd"[j]), np.eye(10)[i] - np.eye(10)[j]
        assert pair.log_ratio == pytest.approx(contrast @ solved)
        units = contrast @ covariance @ contrast
        assert pair.error == pytest.approx(math.sqrt(found.variance * units))


def test_a_machine_that_drifts_from_round_to_round_changes_no_difference() -> None:
    made = drawn(3)
    still, drifting = (
        fit(table(rates.tolist()), set("abc"), 8) for rates in (made, made * np.linspace(1, 0.5, 8))
    )
    assert still is not None
    assert drifting is not None
    assert drifting.effects == pytest.approx(still.effects)
    assert drifting.variance == pytest.approx(still.variance)


@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations("abcd"), scale=st.floats(1e-3, 1e6))
def test_neither_names_nor_units_change_a_verdict(
    seed: int, order: list[str], scale: float
) -> None:
    made = drawn(seed, candidates=4, rounds=6)
    renamed = dict(zip("abcd", order, strict=True))
    one = table(made.tolist())
    other = table((made * scale).tolist())
    other = {renamed[name]: repeats for name, repeats in other.items()}
    before, after = to_end(one, 6), to_end(other, 6)
    assert after.ended == before.ended
    assert after.out == {renamed[name]: r for name, r in before.out.items()}
    first, second = verdict(before, one, CONFIG), verdict(after, other, CONFIG)
    assert second.kind == first.kind
    assert second.names == tuple(renamed[name] for name in first.names)


@pytest.mark.thorough
@pytest.mark.parametrize("noise", [0.02, 0.03])
def test_one_configuration_under_two_names_is_called_equal(noise: float) -> None:
    """3 of 100 races may err."""
    named, races = 0, 400
    for seed in range(races):
        raced = run_race(
            {"a": 100, "b": 100}, CONFIG, np.random.default_rng((100, seed)), Machine(noise)
        )
        named += raced.race.ended == "best"
    assert named <= 0.05 * races


def test_five_percent_are_found_with_fewer_starts_than_all_rounds_take() -> None:
    found, starts, truth = 0, [], {"a": 105.0, "b": 100.0, "default": 85.0}
    for seed in range(200):
        random = np.random.default_rng((8, seed))
        raced = run_race(truth, CONFIG, random, Machine(0.03), always=DEFAULT)
        found += raced.race.remaining == ("a",)
        starts.append(raced.starts)
    assert found >= 0.9 * 200
    assert np.mean(starts) < 0.75 * 3 * CONFIG.repeats_max


def test_a_candidate_noisier_than_the_rest_is_not_named_for_its_noise() -> None:
    truth, named = {"a": 100.0, "b": 100.0, "c": 85.0, "default": 85.0}, 0
    for seed in range(400):
        random = np.random.default_rng((9, seed))
        raced = run_race(truth, CONFIG, random, Machine(0.02), always=DEFAULT, noises={"a": 0.08})
        named += raced.race.ended == "best"
    assert named <= 0.05 * 400


def test_what_hardly_varies_is_decided_at_once() -> None:
    for other, ended in ((100.02, "equal"), (102.0, "best")):
        random = np.random.default_rng(1)
        raced = run_race({"a": 100, "b": other}, CONFIG, random, Machine(0.001, 0, 0))
        assert raced.race.ended == ended
        assert raced.race.rounds <= 4


def test_a_race_that_more_rounds_would_hardly_decide_ends_and_says_so() -> None:
    """Two that are 2 % apart on a machine of 3 %: some are decided, some stop as futile, some go to the end."""
    seen: dict[str, list[str]] = {}
    for seed in range(120):
        random = np.random.default_rng((11, seed))
        raced = run_race({"a": 102.0, "b": 100.0}, CONFIG, random, Machine(0.03))
        seen.setdefault(raced.race.ended, []).append(verdict(raced.race, raced.values, CONFIG).text)
        if raced.race.ended == "budget":
            assert raced.race.rounds == CONFIG.repeats_max
        if raced.race.ended == "futile":
            assert raced.race.rounds < CONFIG.repeats_max
    assert {"best", "futile"} <= set(seen)
    assert all("more rounds would hardly separate them" in text for text in seen["futile"])
    assert not any("hardly separate" in text for text in seen["best"])
    assert all("the least detectable difference is" in text for text in seen["futile"])


def test_figures_that_do_not_vary_at_all_are_compared_as_they_are() -> None:
    same = table([[100.0] * 3, [100.0] * 3])
    assert to_end(same, 3).ended == "equal"
    other = table([[100.0] * 3, [90.0] * 3])
    assert to_end(other, 3).remaining == ("a",)


def test_a_clear_loser_leaves_the_race_early() -> None:
    made = drawn(4, candidates=5, rounds=3, noise=0.02)
    made[4] *= 0.6
    race = to_end(table(made.tolist()), 3)
    assert race.out["e"] == 3


def test_failures_eliminate_a_candidate_once_chance_does_not_explain_them() -> None:
    steady = [100.0, 101.0, 100.5, 99.8, 100.1, 100.3]
    values: dict[str, dict[int, float | None]] = table([steady, steady[::-1]])
    values["c"] = {0: None, 1: 130.0, 2: None, 3: 131.0, 4: None, 5: None}
    race = to_end(values, 4)  # 2 of 4 starts against 0 of 8: p = 0.09
    assert "c" in race.remaining
    assert not race.out  # nor is anyone behind it meanwhile
    race = to_end(values, 6)  # 4 of 6 against 0 of 12: p = 0.005
    assert race.failed == {"c"}
    assert race.remaining == ("a", "b")
    values["c"] = dict.fromkeys(range(3))
    early = Race(frozenset("abc"))
    for _ in range(3):
        early = after_round(early, values, CONFIG, {"c": dict.fromkeys(range(3), 2)})
    assert early.failed == {"c"}  # both tries of three rounds against 0 of 6 starts: p = 0.001


@settings(max_examples=examples(60), deadline=None)
@given(counts=st.tuples(*[st.integers(0, 12)] * 4))
def test_failures_are_judged_by_fishers_exact_test(counts: tuple[int, int, int, int]) -> None:
    failed, good, rivals_failed, rivals_good = counts
    known = stats.fisher_exact([[failed, good], [rivals_failed, rivals_good]], "greater")
    assert failure_p_value(*counts) == pytest.approx(known.pvalue)


def test_a_start_whose_second_try_succeeded_is_no_failure() -> None:
    values: dict[str, dict[int, float | None]] = {"a": {0: 1.0, 1: None, 2: 1.1}}
    assert starts(values, {"a": {0: 1, 1: 2}}, "a", 3) == (2, 2)
    assert starts(values, {"a": {0: 1, 1: 2}}, "a", 1) == (0, 1)


DISTURBED = Machine(0.025, bursts=0.03, fails=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("machine", "truth"),
    [
        (DISTURBED, {"a": 100.0, "b": 100.0}),
        (Machine(0.025, bursts=0.08, fails=0.05), {"a": 100.0, "b": 100.0}),
        (DISTURBED, {"a": 100.0, "b": 100.0, "default": 80.0}),
    ],
)
def test_a_disturbed_machine_names_no_winner(machine: Machine, truth: dict[str, float]) -> None:
    """Other tenants come for some starts in a row, which fail or are slow; the best are equal."""
    named, races = 0, 400
    for seed in range(races):
        random = np.random.default_rng((77, seed))
        raced = run_race(truth, CONFIG, random, machine, always=DEFAULT & truth.keys())
        named += verdict(raced.race, raced.values, CONFIG, (), raced.failures).kind == "best"
    assert named <= 0.05 * races


def test_a_disturbed_machine_still_finds_what_is_better_or_broken() -> None:
    found, left, truth = 0, 0, {"a": 108.0, "b": 100.0, "default": 85.0}
    for seed in range(200):
        random = np.random.default_rng((78, seed))
        raced = run_race(truth, CONFIG, random, DISTURBED, always=DEFAULT)
        found += raced.race.remaining == ("a",)
        random = np.random.default_rng((79, seed))
        raced = run_race(truth, CONFIG, random, DISTURBED, always=DEFAULT, broken={"a": 1.0})
        left += "a" in raced.race.failed and raced.race.out["a"] <= 5
    assert found >= 0.85 * 200
    assert left >= 0.95 * 200


def test_a_single_candidate_is_measured_in_the_fewest_rounds() -> None:
    values = table([[100.0, 101.0, 102.0]])
    assert to_end(values, 2).ended == ""
    assert to_end(values, 3).ended == "best"


def test_a_race_that_has_ended_stays_as_it_is() -> None:
    race = Race(frozenset("ab"), 3, {"b": 3}, ended="best")
    assert after_round(race, table([[1.0] * 9, [2.0] * 9]), CONFIG) is race


def test_the_predictive_power_is_the_share_of_futures_that_decide() -> None:
    """True differences that fit what was seen, each with the rounds to come."""
    rounds, last, seen, noise = 6, 16, 0.02, 0.04
    pair = stats.norm(seen, noise / math.sqrt(rounds))
    random = np.random.default_rng(0)
    truths = pair.rvs(400_000, random_state=random)
    later = random.normal(truths, noise / math.sqrt(last - rounds))
    at_end = (rounds * seen + (last - rounds) * later) / last
    needed = stats.norm.isf(0.01) * noise / math.sqrt(last)
    found = fit(table([[1.0] * 3, [1.1] * 3]), set("ab"), 3)
    assert found is not None
    made = type(found.difference("a", "b"))(seen, noise / math.sqrt(rounds), 99)
    assert predictive_power(made, 0.01, rounds / last) == pytest.approx(
        (at_end > needed).mean(), abs=0.003
    )


def test_levels_are_shared_among_the_pairs() -> None:
    alone, among = Race(frozenset("ab"), 16), Race(frozenset("abcde"), 16)
    assert level_of(alone, CONFIG) > 3 * level_of(among, CONFIG)


def test_the_leader_is_the_highest_of_those_asked_for() -> None:
    found = fit(table([[90.0, 91, 92], [100.0, 101, 99], [95.0, 94, 96]]), set("abc"), 3)
    assert found is not None
    assert leader(found, "abc") == "b"
    assert leader(found, "ac") == "c"
    assert leader(found, "x") is None


def test_too_few_repeats_fit_nothing() -> None:
    assert fit({}, set("ab"), 3) is None
    assert fit(table([[1.0], [2.0]]), set("ab"), 1) is None
    apart = {"a": {0: 1.0, 1: 1.1}, "b": {2: 1.0, 3: 1.2}}
    assert fit(apart, set("ab"), 4) is None  # never in one round


def test_candidates_are_those_not_significantly_below_the_best_score() -> None:
    scores = {0: 70.0, 1: 100.0, 2: 97.0, 3: 95.0, 4: 93.0, 5: 92.0}
    assert may_be_best(scores, CONFIG) == [1, 2, 3, 4]
    assert may_be_best({0: 70.0, 1: 100.0}, CONFIG) == [1]
    assert may_be_best(scores, ConfirmConfig()) == []
    assert may_be_best({}, CONFIG) == []
    reach = stats.norm.isf(0.03 / 2 / 2) * math.sqrt(2) * 0.03
    for score, near in (
        (100 * math.exp(-reach) + 0.01, True),
        (100 * math.exp(-reach) - 0.01, False),
    ):
        assert (1 in may_be_best({0: 100.0, 1: score}, CONFIG)) is near


def test_limits_that_cross_are_refused() -> None:
    with pytest.raises(ValidationError, match="repeats_max is below repeats_min: 3 < 5"):
        ConfirmConfig(repeats_min=5, repeats_max=3)
