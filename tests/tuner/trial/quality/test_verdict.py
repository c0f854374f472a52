"""Verdicts on answers whose true distance from the reference is known."""

import pytest

from tests.tuner.trial.quality.answering import answered, flipped, reference
from tuner.config.groups.quality import QualityConfig
from tuner.trial.quality.verdict import judge, of_reference

CONFIG = QualityConfig()
STUDIES = 200


def rejected(true: float, own: float, config: QualityConfig = CONFIG) -> float:
    """The share of simulated studies in which answers that truly differ so far are rejected."""
    truth, found = reference(), 0
    for seed in range(STUDIES):
        first = flipped(truth, own, 3 * seed)
        ours = answered(first, flipped(truth, own, 3 * seed + 1))
        theirs = answered(flipped(truth, true, 3 * seed + 2))
        found += judge(config, 0, ours, theirs).rejected
    return found / STUDIES


@pytest.mark.parametrize("own", [0.0, 0.01, 0.04])
def test_the_same_configuration_is_not_rejected(own: float) -> None:
    """A/A: an engine that does not repeat itself differs from itself as far as from its double."""
    assert rejected(own, own) <= 0.05


def test_what_differs_far_less_than_the_limit_passes() -> None:
    assert rejected(0.025, 0.0) <= 0.05


def test_what_differs_far_more_than_the_limit_is_rejected() -> None:
    assert rejected(0.10, 0.0) >= 0.95


def test_the_figures_of_a_verdict() -> None:
    truth = reference()
    ours, theirs = answered(truth, flipped(truth, 0.01, 1)), answered(flipped(truth, 0.3, 2, 0.25))
    verdict = judge(CONFIG, 7, ours, theirs)
    assert verdict.kind == "rejected"
    assert verdict.reference == 7
    assert verdict.low < 0.3 < verdict.high
    assert 0 < verdict.own < 0.03
    assert verdict.drift_nats == pytest.approx(0.25)
    assert verdict.margin_nats is not None
    assert verdict.why.startswith(
        f"{verdict.disagreement:.1%} of greedy tokens differ from trial 7's"
    )
    mine = of_reference(7, ours)
    assert mine.kind == "reference"
    assert mine.disagreement == mine.own == verdict.own


def test_drift_decides_where_a_limit_is_set() -> None:
    truth = reference()
    ours, theirs = answered(truth), answered(flipped(truth, 0.0, 2, 0.25))
    assert judge(CONFIG, 0, ours, theirs).kind == "passed"
    strict = QualityConfig(max_drift_nats=0.2)
    assert judge(strict, 0, ours, theirs).why == (
        "log-probabilities differ from trial 0's by 0.25 nats (limit 0.2)"
    )
    silent = answered([each.model_copy(update={"logprobs": [], "margins": []}) for each in truth])
    found = judge(strict, 0, ours, silent)
    assert found.kind == "unknown"
    assert "no log-probabilities" in found.why


def test_what_can_not_be_compared_is_unknown() -> None:
    truth = reference()
    other = answered(truth).model_copy(update={"prompts": "f" * 16})
    assert judge(CONFIG, 0, answered(truth), other).why == (
        "its prompts are not those of the reference"
    )
    few = answered(reference(10, 4))
    assert judge(CONFIG, 0, few, few).why == (
        "only 40 tokens to compare, 100 are needed: raise quality.prompts"
    )


def test_answers_that_differ_at_once_are_rejected_however_few_their_tokens() -> None:
    """Garbage differs at the first token: as many tokens to compare as prompts."""
    truth = reference(10, 32)
    verdict = judge(CONFIG, 0, answered(truth), answered(flipped(truth, 1.0, 1)))
    assert (verdict.positions, verdict.disagreement, verdict.kind) == (10, 1.0, "rejected")
