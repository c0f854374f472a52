"""Several engines of a trial on the virtual clock."""

from typing import Any

import pytest

from tests.tuner.samples.loaded import load
from tuner.config.resolve import trial_config
from tuner.config.trial import TrialConfig
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


def test_the_default_topology_has_the_fingerprint_that_it_had() -> None:
    plain = trial("topology.tensor_parallel=4")
    assert (
        plain.fingerprint == trial("topology.tensor_parallel=4", "topology.replicas=1").fingerprint
    )
    assert (
        plain.fingerprint != trial("topology.tensor_parallel=4", "topology.replicas=2").fingerprint
    )
