"""Points as vectors, feasibility, the initial design, and priors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.groups.space import Space
from tuner.search.curve.encoding import MIDDLE, Encoder, bits_of
from tuner.search.curve.feasibility import MIN_PROBABILITY, completion_probability
from tuner.search.curve.initial_design import levels, rarity
from tuner.search.curve.kernel import Dimensions
from tuner.search.curve.prior import WEIGHTS, deviations, interpolated, weight_probabilities
from tuner.search.space import SearchSpace

SPACE = Space.model_validate(
    {
        "parameters": {
            "engine.vllm.max_num_seqs": {"type": "categorical", "choices": [64, 256, 1024]},
            "engine.trtllm.max_batch_size": {"type": "categorical", "choices": [32, 512]},
            "weights": {"type": "categorical", "choices": ["x-BF16", "x-FP8", "x-FP4"]},
            "cache": {"type": "bool"},
            "share": {"type": "float", "low": 0.85, "high": 0.95, "step": 0.05},
        }
    }
)
ENGINES = ("vllm", "trtllm")
MEANINGS = {
    "engine.vllm.max_num_seqs": "max_sequences",
    "engine.trtllm.max_batch_size": "max_sequences",
}


def encoder(**fixed: object) -> Encoder:
    return Encoder(SearchSpace(SPACE, ENGINES, fixed), MEANINGS)


def column(name: str) -> int:
    return encoder().groups.index(name)


def test_knobs_of_two_engines_that_mean_the_same_share_a_column() -> None:
    groups = encoder().groups
    assert groups.count("max_sequences") == 1
    rows = encoder().encode(
        [
            {"engine": "vllm", "engine.vllm.max_num_seqs": 1024},
            {"engine": "trtllm", "engine.trtllm.max_batch_size": 32},
            {"engine": "trtllm", "engine.trtllm.max_batch_size": 512},
        ]
    )
    np.testing.assert_allclose(rows[:, column("max_sequences")], [1.0, 0.0, 0.8])


def test_wide_numbers_go_by_their_logarithm_and_narrow_ones_do_not() -> None:
    rows = encoder().encode([{"engine.vllm.max_num_seqs": 256, "share": 0.9}])
    assert rows[0, column("max_sequences")] == pytest.approx(3 / 5)
    assert rows[0, column("share")] == pytest.approx(0.5)


def test_precision_is_a_number_as_well() -> None:
    points = [{"weights": name} for name in ("x-BF16", "x-FP8", "x-FP4")]
    rows = encoder().encode(points)
    columns = [i for i, name in enumerate(encoder().groups) if name == "weights"]
    assert len(columns) == 4
    np.testing.assert_allclose(rows[:, columns[-1]], [1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("word", "bits"), [("nvidia/X-FP4", 4), ("fp8_e4m3", 8), ("bfloat16", 16), ("auto", None)]
)
def test_bits_of_words(word: str, bits: float | None) -> None:
    assert bits_of(word) == bits


def test_what_a_point_leaves_open_is_as_fixed_or_in_the_middle() -> None:
    index = column("max_sequences")
    assert encoder().encode([{}])[0, index] == MIDDLE
    open_point = encoder(**{"engine.vllm.max_num_seqs": 1024})
    assert open_point.encode([{}])[0, index] == 1.0


@given(st.integers(0, 1000))
def test_every_point_lies_in_the_unit_cube_and_differs_from_others(seed: int) -> None:
    points = list(SearchSpace(SPACE, ENGINES).enumerate_points())
    some = np.random.default_rng(seed).choice(len(points), 8, replace=False)
    rows = encoder().encode([points[i] for i in some])
    assert ((rows >= 0) & (rows <= 1)).all()
    assert len(np.unique(rows, axis=0)) == len(some)


def test_rare_levels_come_first() -> None:
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    dimensions = Dimensions.of(["a", "b"])
    rare = rarity(levels(x, dimensions), np.array([0, 0, 1]), np.array([1, 2, 3]))
    assert rare.argmax() == 2
    assert rare[0] < rare[1]


def test_failures_in_a_box_are_expected_there_and_nothing_is_ruled_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 3))
    broken = (x[:, 0] > 0.5) & (x[:, 1] > 0.5)
    odds = completion_probability(x, {i: bool(broken[i]) for i in range(60)}, np.arange(60, 200))
    assert odds[broken[60:]].mean() < 0.5 * odds[~broken[60:]].mean()
    assert odds[~broken[60:]].mean() > 0.8
    assert odds.min() >= MIN_PROBABILITY
    assert (completion_probability(x, {0: False}, np.arange(5)) == 1).all()
    assert (completion_probability(x, {0: True}, np.arange(5)) == 0.5).all()


def test_one_failure_rules_nothing_out() -> None:
    x = np.array([[0.0], [1.0], [0.9]])
    assert completion_probability(x, {0: False, 1: True}, np.array([2]))[0] > 0.3


def test_deviations_have_no_level_and_are_0_without_a_prediction() -> None:
    curves = np.log(np.random.default_rng(0).random((5, 3, 2)) + 0.5)
    curves[0, 1] = np.nan
    apart = deviations(curves)
    assert (apart[0, 1] == 0).all()
    np.testing.assert_allclose(apart.sum(0), 0, atol=1e-12)


def test_between_loads_a_prior_is_interpolated() -> None:
    curves = np.array([[0.0, 5.0], [1.0, 7.0]])
    got = interpolated(curves, np.array([0.0, 2.0]), np.array([1.0, 2.0, 9.0]))
    np.testing.assert_allclose(got, [[0.5, 6.0], [1.0, 7.0], [1.0, 7.0]])


@given(st.lists(st.floats(-500, 500), min_size=len(WEIGHTS), max_size=len(WEIGHTS)))
def test_weights_have_probabilities_that_follow_the_likelihood(logs: list[float]) -> None:
    odds = weight_probabilities(logs)
    assert odds.sum() == pytest.approx(1)
    best = int(np.argmax(logs))
    raised = [value + 50 * (i == best) for i, value in enumerate(logs)]
    assert weight_probabilities(raised)[best] >= odds[best]
