"""Layouts that can't hold the model are counted, and no trial of them is proposed."""

import pytest

from tuner.config.load import load
from tuner.search.factory import SearchSetup
from tuner.search.proposer import Proposer
from tuner.search.space import SearchSpace
from tuner.study.planning.too_large import too_large

R1 = [
    "experiment=b300_vllm",
    "model=deepseek_r1",
    "topology=tp8",
    "search=random",
    "search.trials=40",
]
SIZES = "+space.parameters.topology.tensor_parallel={type: categorical, choices: [1, 2, 4, 8]}"


@pytest.mark.thorough
def test_they_are_counted_and_never_proposed() -> None:
    study = load([*R1, "space=none", SIZES])
    said = too_large(study, SearchSpace.of(study))
    assert said.startswith("2 of 4 layouts of the space can't hold the model")
    assert "deepseek-ai/DeepSeek-R1 needs at least 62" in said
    setup = SearchSetup(study)
    proposer: Proposer = setup.proposer()
    tried = []
    while proposal := proposer.ask():
        tried.append(proposal.config.topology.tensor_parallel)
    assert sorted(tried) == [4, 8]


def test_nothing_is_said_where_all_may_fit() -> None:
    study = load(["experiment=b300_vllm"])
    assert too_large(study, SearchSpace.of(study)) == ""
