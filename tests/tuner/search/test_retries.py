"""Which failures are tried again, how often, and in which order; and whole studies in which machines fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import DOMAINS
from tests.tuner.samples.landscape import landscape, measured, result_of
from tests.tuner.study.learning.test_budget import Watched
from tuner.config.groups.search import Budget, ConfirmConfig, SearchConfig
from tuner.config.study import StudyConfig
from tuner.results.ledger import Attempt, Finished, Ledger, read, results
from tuner.search import Proposal
from tuner.search.outcome import outcome_of
from tuner.search.retries import (
    MAX_RETRIES,
    Quarantine,
    in_order,
    is_transient,
    tried_again,
)
from tuner.study.learning.budget import spent
from tuner.study.study import Study
from tuner.trial.result import (
    Completed,
    Failed,
    Measured,
    Timings,
    TrialResult,
    fault_domain,
)

CONFIG = landscape(SearchConfig(kind="random", trials=4))
WALL_S = 90.0


def failed(failure: str, config: StudyConfig = CONFIG, point: object = None) -> Failed:
    trial = result_of(config, point or {}).config  # type: ignore[arg-type]
    return Failed(trial, failure, "evidence", Timings(WALL_S, 0, 0))


# What an older version called transient, and what belongs to nodes, rights, networks and machines.
OLD = (
    "DeployFailed",
    "EngineLeft",
    "EngineRestarted",
    "NodeLost",
    "PortTaken",
    "PowerCapLost",
    "ShardLost",
)
OLDER = ("SupervisorDied", "WorkerDied")
NODES = {
    *OLD,
    *OLDER,
    "GpuOccupied",
    "ModelGated",
    "FabricFailed",
    "PeerLost",
    "GpuFailed",
    "ModelMissing",
}


@pytest.mark.parametrize("failure", sorted(NODES))
def test_what_the_machine_caused_is_tried_again_twice(failure: str) -> None:
    assert MAX_RETRIES == 2
    assert is_transient(failed(failure))
    assert [tried_again(failed(failure), before) for before in range(4)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "failure",
    [
        *("OutOfMemory", "BadFlags", "StartTimeout", "EngineExited", "LaunchError", "Unhealthy"),
        *("KvCacheTooSmall", "Unsupported", "EngineHung", "EndpointErrors", "NeverHeardOf"),
    ],
)
def test_what_the_configuration_caused_is_not(failure: str) -> None:
    assert not tried_again(failed(failure), 0)


def test_what_completed_is_not() -> None:
    assert not tried_again(result_of(CONFIG, {}), 0)


def test_every_domain_is_of_an_error() -> None:
    for failure, domain in DOMAINS.items():
        assert fault_domain(failure) == domain
    assert {"configuration", "node", "rights", "network", "machine"} == {*DOMAINS.values()}


def test_only_a_failure_of_the_configuration_teaches_the_search() -> None:
    def learnt(failure: str, attempts: int) -> tuple[bool, bool]:
        outcome = outcome_of(CONFIG, failed(failure), attempts)
        return outcome.transient, outcome.unknown

    assert learnt("OutOfMemory", 0) == (False, False)
    assert learnt("DriverMismatch", 2) == (False, True)
    assert learnt("NodeLost", 0) == (True, True)


def test_defaults_run_again_first_and_others_in_their_order() -> None:
    trial = result_of(CONFIG, {}).config
    points = {3: {"engine": "a", "x": 1}, 1: {"x": 2}, 2: {}, 7: {"engine": "b"}}
    waiting = [Proposal(number, point, trial) for number, point in points.items()]
    assert [each.number for each in in_order(waiting)] == [2, 7, 1, 3]


Fate = Callable[[Proposal, int], TrialResult]  # the proposal, and which attempt at it from 0


def play(folder: Path, config: StudyConfig, fate: Fate, most: int = 999) -> list[int]:
    """Runs a study one trial at a time; the numbers in the order in which they ran."""
    ran: list[int] = []
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [Watched([])])
        before = Counter(e.number for e in ledger.entries() if isinstance(e, Attempt))
        while len(ran) < most and (proposal := study.ask()):
            result = fate(proposal, before[proposal.number])
            before[proposal.number] += 1
            ran.append(proposal.number)
            study.finished(proposal.number, Measured(result, {}))
        if len(ran) < most:
            assert study.remaining() == 0
    return ran


def flaky(config: StudyConfig, times: dict[int, int], failure: str = "WorkerDied") -> Fate:
    """Trial → how many attempts at it fail at first."""

    def fate(proposal: Proposal, attempt: int) -> TrialResult:
        if attempt < times.get(proposal.number, 0):
            return Failed(proposal.config, failure, "gone", Timings(WALL_S, 0, 0))
        return measured(config, proposal).result

    return fate


POINTS = ({"engine.llamacpp.threads": 2}, {"engine.llamacpp.threads": 3})
SEARCHES = {
    "list": SearchConfig(kind="list", trials=3, points=POINTS),
    "tpe": SearchConfig(kind="tpe", trials=6, startup_trials=3),
    "curve": SearchConfig(kind="curve", trials=6, startup_trials=3),
    "random": SearchConfig(kind="random", trials=6),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_every_search_gets_the_result_of_a_trial_whose_machine_failed(
    kind: str, tmp_path: Path
) -> None:
    """The default first of all. The search goes on as if nothing had happened: the same points, in order."""
    config = landscape(SEARCHES[kind])
    play(tmp_path / "calm", config, flaky(config, {}))
    ran = play(tmp_path / "flaky", config, flaky(config, {0: 2, 2: 1}))
    assert ran[:3] == [0, 0, 0]
    assert ran == sorted(ran)
    calm, rough = results(tmp_path / "calm"), results(tmp_path / "flaky")
    assert [e.fingerprint for e in rough] == [e.fingerprint for e in calm]
    assert all(isinstance(e.result, Completed) for e in rough)
    assert len(rough) == SEARCHES[kind].trials


def test_the_third_failure_is_the_result(tmp_path: Path) -> None:
    ran = play(tmp_path, CONFIG, flaky(CONFIG, {1: 99}))
    assert ran == [0, 1, 1, 1, 2, 3]
    entries = read(tmp_path)
    assert [type(e.result).__name__ for e in results(tmp_path)] == [
        "Completed", "Failed", "Completed", "Completed",
    ]  # fmt: skip
    attempts = [e for e in entries if isinstance(e, Attempt)]
    assert [e.number for e in attempts] == [1, 1]
    assert len({e.fingerprint for e in results(tmp_path)}) == 4  # it is not proposed anew


def test_a_failure_of_the_configuration_is_the_result_at_once(tmp_path: Path) -> None:
    assert play(tmp_path, CONFIG, flaky(CONFIG, {1: 99}, "OutOfMemory")) == [0, 1, 2, 3]
    assert not any(isinstance(e, Attempt) for e in read(tmp_path))


def test_an_attempt_costs_time_and_is_no_trial(tmp_path: Path) -> None:
    play(tmp_path, CONFIG, flaky(CONFIG, {1: 2}))
    cost = spent(read(tmp_path))
    whole = sum(e.result.timings.wall_s for e in results(tmp_path))
    assert cost.trials == len(results(tmp_path)) == 4
    assert cost.device_hours == pytest.approx((whole + 2 * WALL_S) / 3600)


def test_attempts_count_against_the_budget(tmp_path: Path) -> None:
    config = landscape(SearchConfig(kind="random", trials=20, budget=Budget(device_hours=0.45)))
    calm = play(tmp_path / "calm", config, flaky(config, {}))
    rough = play(tmp_path / "flaky", config, flaky(config, {0: 2}))
    assert len(set(rough)) < len(set(calm))


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_study_that_is_cut_at_any_trial_goes_on_as_if_it_had_not_been(
    cut: int, tmp_path: Path
) -> None:
    config = landscape(SEARCHES["curve"])
    fate = flaky(config, {0: 1, 2: 2, 4: 99})
    whole = play(tmp_path / "whole", config, fate)
    first = play(tmp_path / "cut", config, fate, most=cut)
    assert first + play(tmp_path / "cut", config, fate) == whole
    known = [
        [(type(e).__name__, e.number, e.fingerprint) for e in read(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert known[0] == known[1]


def test_repeats_are_tried_again_too(tmp_path: Path) -> None:
    confirm = ConfirmConfig(candidates=1, repeats_min=2, repeats_max=2)
    config = landscape(SearchConfig(kind="random", trials=3, confirm=confirm))
    calm = play(tmp_path / "calm", config, flaky(config, {}))
    rough = play(tmp_path / "flaky", config, flaky(config, {3: 1, 4: 2}))
    assert rough == [0, 1, 2, 3, 3, 4, 4, 4, *range(5, max(calm) + 1)]
    repeats = [e for e in read(tmp_path / "flaky") if e.repeat and isinstance(e, Finished)]
    assert all(isinstance(e.result, Completed) for e in repeats)
    assert [e.repeat for e in repeats] == [
        e.repeat for e in read(tmp_path / "calm") if e.repeat and isinstance(e, Finished)
    ]


def test_a_trial_that_fails_while_the_study_is_being_stopped_runs_again_on_resume(
    tmp_path: Path,
) -> None:
    with Ledger.open(tmp_path) as ledger:
        study = Study(CONFIG, ledger, [])
        proposal = study.ask()
        assert proposal is not None
        study.close()
        study.died(proposal.number, "gone", 12.0)
        assert study.ask() is None
        assert study.remaining() > 0
    assert play(tmp_path, CONFIG, flaky(CONFIG, {}))[0] == proposal.number


def on(host: str, threads: int, failure: str = "") -> TrialResult:
    """The end of a trial with so many threads on a node."""
    point = {"engine.llamacpp.threads": threads}
    facts = {"host": host}
    if not failure:
        return replace(result_of(CONFIG, point), provenance=facts)
    return replace(failed(failure, CONFIG, point), provenance=facts)


@pytest.mark.parametrize(
    ("ends", "quarantined"),
    [
        ([on("a", 1, "DriverMismatch"), on("a", 2, "GpuOccupied")], {"a"}),
        ([on("a", 1, "FabricFailed"), on("a", 2, "GpuFailed")], {"a"}),
        ([on("a", 1, "GpuOccupied"), on("a", 1, "GpuOccupied")], set()),  # the same configuration
        ([on("a", 1, "GpuOccupied"), on("b", 2, "GpuOccupied")], set()),
        ([on("a", 1, "GpuOccupied"), on("a", 3), on("a", 2, "GpuOccupied")], set()),
        ([on("a", 1, "OutOfMemory"), on("a", 2, "BadFlags")], set()),
        ([on("a", 1, "GpuOccupied"), on("a", 2, "OutOfMemory"), on("a", 3, "DiskFull")], {"a"}),
        ([on("a", 1, "ModelGated"), on("a", 2, "ModelGated")], set()),  # the same on all nodes
        ([on("a", 1, "WorkerDied"), on("a", 2, "WorkerDied")], set()),  # one dead node kills many
        ([on("", 1, "GpuOccupied"), on("", 2, "GpuOccupied")], set()),
    ],
)
def test_a_node_that_fails_different_configurations_is_quarantined(
    ends: list[TrialResult], quarantined: set[str]
) -> None:
    quarantine = Quarantine()
    for end in ends:
        quarantine.add(end)
    assert {*quarantine.nodes} == quarantined


def test_a_resumed_study_avoids_the_same_nodes(tmp_path: Path) -> None:
    """The ledger has the node of each failed attempt."""

    def attempt(study: Study, host: str) -> Proposal:
        proposal = study.ask()
        assert proposal is not None
        facts = {"host": host}
        result = Failed(proposal.config, "GpuOccupied", "held", Timings(1, 0, 0), provenance=facts)
        study.finished(proposal.number, Measured(result, {}))
        return proposal

    with Ledger.open(tmp_path) as ledger:
        study = Study(CONFIG, ledger, [])
        first = attempt(study, "a")
        again = attempt(study, "b")
        assert (first.avoid, again.number, again.avoid) == (frozenset(), first.number, {"a"})
        third = attempt(study, "a")
        assert third.avoid == {"a", "b"}
        assert third.number == first.number
        attempt(study, "a")  # another configuration
        assert {*study.quarantined} == {"a"}
    with Ledger.open(tmp_path) as ledger:
        resumed = Study(CONFIG, ledger, [])
        assert {*resumed.quarantined} == {"a"}
        waiting = resumed.ask()
        assert waiting is not None
        assert waiting.avoid == {"a"}
