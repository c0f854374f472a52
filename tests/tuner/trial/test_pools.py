"""Several engines of a trial on the virtual clock."""

from typing import Any

import pytest

from tests.tuner.samples.loaded import load
from tuner.analysis.tier_curves import DeviceCounts
from tuner.config.resolve import trial_config
from tuner.config.trial import TrialConfig, fingerprint_of
from tuner.search.factory import SearchSetup
from tuner.search.outcome import outcome_of
from tuner.trial.result import Completed
from tuner.trial.simulate import simulate_trial

LOAD = ("workload=twin", "workload.arrival.concurrency=[32]")


def trial(*words: str) -> TrialConfig:
    base = ("experiment=b300_vllm", "hardware=b300_twin", "space=none", *LOAD)
    return trial_config(load([*base, *words]), {})


def figures(config: TrialConfig) -> dict[str, Any]:
    result = simulate_trial(config).result
    assert isinstance(result, Completed), result
    return dict(result.points[0].metrics)


@pytest.mark.thorough
def test_two_replicas_with_twice_the_users_are_one_with_once() -> None:
    one = figures(trial("topology.tensor_parallel=4", "workload.arrival.concurrency=[16]"))
    two = figures(trial("topology.tensor_parallel=4", "topology.replicas=2"))
    name = "throughput_output_tok_s_device"
    assert two[name] == pytest.approx(one[name], rel=0.05)
    assert two["tpot_p50_ms"] == pytest.approx(one["tpot_p50_ms"], rel=0.05)


@pytest.mark.thorough
def test_prefill_engines_of_a_topology_are_the_pools_of_the_twin() -> None:
    split = trial(
        "topology.tensor_parallel=4", "+topology.prefill={tensor_parallel: 2, replicas: 2}"
    )
    pools = trial(
        "topology.tensor_parallel=4",
        "+hardware.twin.pools={prefill: 2, decode: 1, prefill_topology: {tensor_parallel: 2}}",
    )
    assert [tuple(each) for each in split.pools] == [tuple(each) for each in pools.pools]
    assert split.devices == pools.devices == 8
    assert figures(split) == figures(pools)


def test_studies_of_before_have_the_fingerprints_that_they_had() -> None:
    now = trial("topology.tensor_parallel=4")
    before = now.model_dump(mode="json")
    for name in ("replicas", "prefill", "router", "router_args"):
        del before["topology"][name]
    del before["engine"]["prefill_knobs"]
    assert fingerprint_of(before) == now.fingerprint
    assert trial("topology.tensor_parallel=4", "topology.replicas=2").fingerprint != now.fingerprint


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["tpe", "curve"])
def test_a_search_varies_the_engines_of_each_role(kind: str) -> None:
    space = "{type: int, low: 1, high: 2}"
    study = load([
        *("experiment=b300_vllm", "hardware=b300_twin", "space=none", "topology.tensor_parallel=2"),
        *("+topology.prefill={tensor_parallel: 1}", f"search={kind}", "search.trials=4", *LOAD),
        f"++space.parameters.topology.prefill.replicas={space}",
        f"++space.parameters.topology.replicas={space}",
    ])  # fmt: skip
    setup, seen, counts = SearchSetup(study, (8, 8)), set[tuple[int, int]](), DeviceCounts(study)
    proposer = setup.proposer()
    while len(seen) < 4 and (proposal := proposer.ask()) is not None:
        topology = proposal.config.topology
        assert topology.prefill is not None
        seen.add((topology.prefill.replicas, topology.replicas))
        result = simulate_trial(proposal.config).result
        proposer.tell(proposal.number, outcome_of(study, result))
        assert counts(proposal.point) == topology.gpus
        assert setup.space.layout(proposal.point).gpus == topology.gpus
    assert seen == {(1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.thorough
def test_what_is_assumed_of_two_pools_is_said() -> None:
    split = trial("topology.tensor_parallel=4", "+topology.prefill={tensor_parallel: 2}")
    result = simulate_trial(split).result
    assert isinstance(result, Completed)
    assumes = result.provenance["assumes"]
    assert isinstance(assumes, list)
    assert any("disaggregated prefill" in line for line in assumes)
