"""How far answers differ, against cases that are counted by hand and streams whose truth is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.trial.quality.answering import flipped, reference
from tuner.trial.quality.answers import Answer
from tuner.trial.quality.comparison import compare, exact_interval

STUDIES = 300


def answer(text: str, *, ended: bool = False) -> Answer:
    tokens = text.split()
    places = range(len(tokens))
    return Answer(
        tokens=tokens,
        logprobs=[-0.1 * place for place in places],
        margins=[1.0 + place for place in places],
        ended=ended,
    )


@pytest.mark.parametrize(
    ("one", "other", "positions", "flips", "margin"),
    [
        (answer("a b c"), answer("a b c"), 3, 0, None),
        (answer("a b c"), answer("a x c"), 2, 1, 2.0),  # what follows a flip is not compared
        (answer("a b c"), answer("a b", ended=True), 3, 1, 3.0),  # one goes on, the other ends
        (answer("a b", ended=True), answer("a b", ended=True), 3, 0, None),  # both end
        (answer("a b"), answer("a b", ended=True), 2, 0, None),  # the limit, or the end just there
        (answer("", ended=True), answer("a"), 1, 1, None),
    ],
)
def test_counted_by_hand(
    one: Answer, other: Answer, positions: int, flips: int, margin: float | None
) -> None:
    found = compare([one], [other])
    assert (found.positions, found.flips, found.margin_nats) == (positions, flips, margin)


def test_drift_is_of_equal_tokens_alone() -> None:
    one, other = answer("a b c"), answer("a b x")
    shifted = other.model_copy(update={"logprobs": [-0.2, -0.3, -9.0]})
    assert compare([one], [shifted]).drift_nats == pytest.approx((0.2 + 0.2) / 2)
    silent = other.model_copy(update={"logprobs": [], "margins": []})
    assert compare([one], [silent]).drift_nats is None


@given(st.floats(0.0, 0.5), st.integers(0, 10_000))
def test_the_order_of_two_sets_does_not_matter(chance: float, seed: int) -> None:
    one = reference(12, 8, seed)
    other = flipped(one, chance, seed)
    ahead, back = compare(one, other), compare(other, one)
    assert (ahead.positions, ahead.flips) == (back.positions, back.flips)
    assert ahead.flips <= len(one) <= max(ahead.positions, len(one))


@pytest.mark.parametrize("chance", [0.005, 0.03, 0.1])
def test_the_interval_holds_the_true_share(chance: float) -> None:
    one, inside, shares = reference(), 0, list[float]()
    for seed in range(STUDIES):
        found = compare(one, flipped(one, chance, seed))
        low, high = found.interval
        inside += low <= chance <= high
        shares.append(found.disagreement)
    assert inside / STUDIES >= 0.92  # 95 %, less 2.4 standard errors of this many studies
    assert sum(shares) / STUDIES == pytest.approx(chance, rel=0.1)  # ends of answers bias nothing


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (5, 50, 0.0333, 0.2181)],
)
def test_the_interval_is_that_of_the_tables(
    hits: int, trials: int, low: float, high: float
) -> None:
    """Two-sided 95 %; 0 of n: 1 − 0.025^(1/n)."""
    assert exact_interval(hits, trials) == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )
    if not hits:
        assert exact_interval(0, trials)[1] == pytest.approx(1 - 0.025 ** (1 / trials))
