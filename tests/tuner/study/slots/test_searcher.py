"""Which trial is started next, where, and what happens to one that gets no devices."""

from dataclasses import replace

import pytest

from serving.topology import Topology
from tests.tuner.samples.study import sample_config
from tuner.config.resolve import trial_config
from tuner.search import Proposal
from tuner.study.capacity import Capacity
from tuner.study.slots.searcher import StudySearcher
from tuner.trial.result import Measured

TWO_NODES = Capacity(((8, 0), (8, 0)), ids=("x", "y"), names=("a", "b"))
ONE_NODE = Capacity(((4, 0),), ids=("y",), names=("b",))


class Listed:
    """A source of trials of these sizes."""

    def __init__(self, *gpus: int) -> None:
        base = trial_config(sample_config(), {"engine": "vllm"})
        self.proposals = [
            Proposal(i, {}, base.model_copy(update={"topology": Topology(tensor_parallel=n)}))
            for i, n in enumerate(gpus)
        ]
        self.closed = False
        self.quarantined: set[str] = set()
        self.limits: list[tuple[int, int]] = []
        self.lost: list[tuple[int, str]] = []

    def ask(self) -> Proposal | None:
        return self.proposals.pop(0) if self.proposals and not self.closed else None

    def finished(self, number: int, measured: Measured) -> None: ...

    def died(self, number: int, evidence: str, wall_s: float = 0.0, host: str = "") -> None: ...

    def unplaced(self, number: int, evidence: str) -> None:
        self.lost.append((number, evidence))

    def limit(self, largest: tuple[int, int]) -> None:
        self.limits.append(largest)

    def remaining(self) -> int:
        return len(self.proposals)

    def close(self) -> None:
        self.closed = True


def test_each_trial_gets_a_node_and_the_next_one_waits_for_it() -> None:
    searcher = StudySearcher(Listed(8, 8, 8), TWO_NODES)
    assert [searcher.suggest(name)["node"] for name in ("1", "2")] == ["x", "y"]
    assert searcher.suggest("3") is None
    assert searcher.note == ""
    searcher.on_trial_complete("2")
    assert searcher.suggest("3")["node"] == "y"


def test_a_trial_waits_for_other_tenants_then_the_study_stops() -> None:
    source = Listed(8)
    busy = replace(TWO_NODES, left=((3, 0), (0, 0)))
    searcher = StudySearcher(source, busy, lambda: busy, wait_s=1e9)
    assert searcher.suggest("1") is None
    assert not searcher.gave_up
    free = replace(busy, left=((8, 0), (0, 0)))
    again = StudySearcher(Listed(8), busy, lambda: free)
    assert again.suggest("1")["node"] == "x"

    impatient = StudySearcher(Listed(8), busy, lambda: busy, wait_s=0)
    assert impatient.suggest("1") is None
    assert "8 GPUs: node a has 3 free, node b has 0 free" in impatient.gave_up
    assert "cluster.wait_s" in impatient.gave_up
    assert impatient.suggest("2") == "FINISHED"


def test_what_a_lost_node_held_is_not_tried_and_the_rest_is() -> None:
    source = Listed(8, 8, 4)
    now = [TWO_NODES]
    searcher = StudySearcher(source, TWO_NODES, lambda: now[0], wait_s=0)
    assert searcher.suggest("1")["node"] == "x"
    searcher.on_trial_complete("1")
    now[0] = ONE_NODE
    assert searcher.suggest("2") is None
    assert source.limits == [(4, 0)]
    assert source.lost == [(1, "no node is left that holds 8 GPUs: node b has 4 free")]
    assert searcher.suggest("2")["node"] == "y"
    assert not searcher.gave_up


def test_a_node_that_returns_is_used_again() -> None:
    source = Listed(8, 4, 8)
    now = [ONE_NODE]
    searcher = StudySearcher(source, TWO_NODES, lambda: now[0], wait_s=0)
    assert searcher.suggest("1") is None
    assert searcher.suggest("1")["node"] == "y"
    now[0] = TWO_NODES
    assert searcher.suggest("2")["node"] == "x"
    assert source.limits == [(4, 0), (8, 0)]


def test_a_study_that_is_closed_does_not_wait_for_devices() -> None:
    source = Listed(8)
    busy = replace(TWO_NODES, left=((0, 0), (0, 0)))
    searcher = StudySearcher(source, busy, lambda: busy, wait_s=1e9)
    assert searcher.suggest("1") is None
    source.close()
    assert searcher.suggest("1") == "FINISHED"


def test_a_node_whose_slot_died_gets_no_trial_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray may list a dead node as alive: a trial would wait there for ever."""
    searcher = StudySearcher(Listed(4, 4, 4), TWO_NODES, lambda: TWO_NODES)
    assert searcher.suggest("1")["node"] == "x"
    searcher.on_trial_complete("1", error=True)
    assert [searcher.suggest(name)["node"] for name in ("2", "3")] == ["y", "y"]

    searcher = StudySearcher(Listed(4, 4), TWO_NODES, lambda: TWO_NODES)
    searcher.suggest("1")
    searcher.on_trial_complete("1", error=True)
    monkeypatch.setattr("tuner.study.slots.searcher.SUSPECT_S", 0.0)
    assert searcher.suggest("2")["node"] == "x"


def test_the_only_node_is_not_avoided() -> None:
    searcher = StudySearcher(Listed(4, 4), ONE_NODE, lambda: ONE_NODE)
    searcher.suggest("1")
    searcher.on_trial_complete("1", error=True)
    assert searcher.suggest("2")["node"] == "y"


THREE_NODES = Capacity(((8, 0), (8, 0), (8, 0)), ids=("x", "y", "z"), names=("a", "b", "c"))


def avoiding(source: Listed, *nodes: str) -> Listed:
    source.proposals = [replace(each, avoid=frozenset(nodes)) for each in source.proposals]
    return source


def test_a_trial_that_failed_on_a_node_runs_on_another_one() -> None:
    searcher = StudySearcher(avoiding(Listed(8, 8, 8), "a", "b"), THREE_NODES)
    assert searcher.suggest("1")["node"] == "z"
    assert searcher.suggest("2") is None  # it waits for that node, while a and b are free
    searcher.on_trial_complete("1")
    assert searcher.suggest("2")["node"] == "z"
    assert searcher.suggest("2") is None


def test_nodes_that_one_trial_avoids_are_for_the_others_meanwhile() -> None:
    source = Listed(8, 8, 8)
    first, again, other = source.proposals
    source.proposals = [
        replace(first, avoid=frozenset({"a"})),
        replace(again, avoid=frozenset({"a"})),
        other,
    ]
    searcher = StudySearcher(source, TWO_NODES)
    assert searcher.suggest("1")["host"] == "b"
    assert searcher.suggest("2") is None  # it waits for b
    assert searcher.suggest("2")["number"] == other.number  # on a
    assert searcher.suggest("3") is None
    searcher.on_trial_complete("2")
    assert searcher.suggest("3") is None
    searcher.on_trial_complete("1")
    begun = searcher.suggest("3")
    assert (begun["number"], begun["host"]) == (again.number, "b")
    searcher.on_trial_complete("3")
    assert searcher.suggest("4") == "FINISHED"


def test_a_trial_that_failed_everywhere_runs_anywhere() -> None:
    assert StudySearcher(avoiding(Listed(8), "a", "b", "c"), THREE_NODES).suggest("1") is not None
    assert StudySearcher(avoiding(Listed(4), "b"), ONE_NODE).suggest("1")["node"] == "y"


def test_a_quarantined_node_gets_a_trial_only_if_no_other_one_can_hold_it() -> None:
    source = Listed(8, 8)
    source.quarantined = {"a"}
    searcher = StudySearcher(source, TWO_NODES)
    assert searcher.suggest("1")["host"] == "b"
    assert searcher.suggest("2") is None
    source = avoiding(Listed(8, 8), "b")
    source.quarantined = {"a"}
    assert StudySearcher(source, TWO_NODES).suggest("1")["host"] == "b"
    source = Listed(8)
    source.quarantined = {"a", "b"}
    assert StudySearcher(source, TWO_NODES).suggest("1") is not None
