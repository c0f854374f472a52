"""Every search kind keeps the same contract; the samplers themselves are Optuna's."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from tests.tuner.samples.loaded import load
from tuner.config.study import StudyConfig
from tuner.search import Outcome, Proposal, Proposer
from tuner.search.factory import SearchSetup

KINDS = ["grid", "random", "qmc", "tpe", "nsga2", "curve"]


def study(kind: str, *more: str) -> StudyConfig:
    return load(["experiment=laptop", f"search.kind={kind}", *more])


@cache
def driven(kind: str) -> tuple[Proposal, ...]:
    """The first 20 proposals of a search. A proposal depends on those before it alone."""
    return tuple(drive(proposer(study(kind)), 20))


def proposer(config: StudyConfig) -> Proposer:
    return SearchSetup(config).proposer()


def values_of(proposal: Proposal) -> Mapping[str, float]:
    """An invented landscape: more slots are better for bulk, fewer for premium."""
    slots = getattr(proposal.config.engine, "parallel", 1) or 1
    return {"bulk": float(slots), "standard": 8.0 / slots, "premium": 1.0 / slots}


def drive(source: Proposer, count: int) -> list[Proposal]:
    proposals = []
    for _ in range(count):
        proposal = source.ask()
        if proposal is None:
            break
        proposals.append(proposal)
        failed = proposal.number % 5 == 4
        source.tell(proposal.number, Outcome(None if failed else values_of(proposal)))
    return proposals


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_distinct_valid_and_numbered(kind: str) -> None:
    proposals = driven(kind)
    assert [p.number for p in proposals] == list(range(20))
    assert len({p.config.fingerprint for p in proposals}) == 20


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_proposals(kind: str) -> None:
    again = drive(proposer(study(kind)), 15)
    assert [p.point for p in driven(kind)[:15]] == [p.point for p in again]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["random", "qmc", "tpe", "nsga2"])
def test_another_seed_other_proposals(kind: str) -> None:
    other = drive(proposer(study(kind, "search.seed=1")), 5)
    assert [p.point for p in driven(kind)[:5]] != [p.point for p in other]


def test_the_default_configuration_is_first() -> None:
    config = study("tpe")
    first = drive(proposer(config), 1)[0]
    assert first.config.engine == config.engine["llamacpp"]


def test_a_replay_of_asks_and_tells_gives_the_same_proposals() -> None:
    """What resuming rests on: any interleaving, replayed, leaves the search where it was."""
    script = ["ask", "ask", "tell0", "ask", "tell2", "tell1", "ask", "ask", "tell4", "tell3", "ask"]

    def replay() -> list[Any]:
        source, asked = proposer(study("tpe")), []
        for step in script:
            if step == "ask":
                proposal = source.ask()
                assert proposal is not None
                asked.append(proposal)
            else:
                source.tell(int(step[4:]), Outcome(values_of(asked[int(step[4:])])))
        return [p.point for p in asked]

    assert replay() == replay()


@pytest.mark.thorough
def test_an_exhausted_space_ends_the_search() -> None:
    config = load(
        [
            "experiment=laptop",
            "search.kind=tpe",
            "space=none",
            "+space.parameters={engine: {llamacpp: {parallel: {type: int, low: 1, high: 3}}}}",
        ]
    )
    proposals = drive(proposer(config), 10)
    assert proposals[0].config.engine.parallel is None
    assert sorted(p.config.engine.parallel for p in proposals[1:]) == [1, 2, 3]


def test_a_list_is_run_in_its_order() -> None:
    points = "[{engine.llamacpp.parallel: 3}, {engine.llamacpp.parallel: 1}]"
    config = study("list", "search.default_first=false", f"search.points={points}")
    assert [p.config.engine.parallel for p in drive(proposer(config), 5)] == [3, 1]


def test_failures_are_not_numbers_to_the_search() -> None:
    source = proposer(study("tpe"))
    for _ in range(12):
        proposal = source.ask()
        assert proposal is not None
        source.tell(proposal.number, Outcome(None))
