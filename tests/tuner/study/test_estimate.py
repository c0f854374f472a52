"""The estimate against figures worked out by hand, and its known trials against those of a study."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.topology import Topology
from tests.tuner.samples.loaded import load
from tests.tuner.samples.study import sample_config
from tuner.config.groups.cluster import ClusterConfig
from tuner.config.groups.hardware import Constant, Hardware
from tuner.config.groups.search import ConfirmConfig, Screening, SearchConfig
from tuner.config.groups.space import Point
from tuner.config.resolve import single, trial_config
from tuner.config.study import StudyConfig
from tuner.search import Outcome, Proposal
from tuner.search.factory import SearchSetup
from tuner.study.capacity import Capacity
from tuner.study.estimate import (
    StudyEstimate,
    TrialCost,
    confirmation_cost,
    estimate,
    known_trials,
    makespan_s,
    planned_capacity,
    unknown_trials,
)
from tuner.study.local_cluster import local_capacity
from tuner.trial.duration import load_s

LLAMA, VLLM = {"engine": "llamacpp"}, {"engine": "vllm"}
# A trial: 3 s of overhead, 3 s (llama.cpp) or 60 s (vLLM) of start, four levels of 2 + 10 to 2 + 60 s; with
# GPUs, 6 s more in which their boards are idle.
LLAMA_S, VLLM_S = (54.0, 254.0), (111.0, 311.0)
ONE, TWO = Capacity(((0, 2),)), Capacity(((0, 4),))  # as many trials of two cores at once


def listed(*points: Point, kind: str = "list", trials: int | None = None) -> StudyConfig:
    search = SearchConfig.model_validate(
        {"kind": kind, "trials": trials or len(points), "points": points, "default_first": False}
    )
    return sample_config().model_copy(update={"search": search})


def proposals(config: StudyConfig, *points: Point) -> list[Proposal]:
    return [Proposal(i, point, trial_config(config, point)) for i, point in enumerate(points)]


def estimated(
    capacity: Capacity, *points: Point, kind: str = "list", trials: int | None = None
) -> StudyEstimate:
    config = listed(*points, kind=kind, trials=trials)
    return estimate(config, capacity, proposals(config, *points))


def test_one_after_the_other() -> None:
    figures = estimated(ONE, LLAMA, VLLM, LLAMA)
    assert figures.trials == 3
    assert figures.wall_s == (54 + 111 + 54, 254 + 311 + 254)
    assert figures.device_hours == pytest.approx((219 / 3600, 819 / 3600))
    assert figures.usd == pytest.approx((0.09 * 219 / 3600, 0.09 * 819 / 3600))


def test_two_at_a_time_take_less_time_and_no_less_money() -> None:
    figures = estimated(TWO, LLAMA, VLLM, LLAMA)
    assert figures.wall_s == (111, 254 + 254)
    assert figures.device_hours == pytest.approx((219 / 3600, 819 / 3600))


def test_trials_not_known_yet_cost_between_the_least_and_the_most() -> None:
    figures = estimated(ONE, LLAMA, VLLM, kind="tpe", trials=5)
    assert figures.trials == 5
    assert figures.wall_s == (54 + 111 + 3 * 54, 254 + 311 + 3 * 311)


def test_idle_power_is_metered_twice() -> None:
    for name, idle_s in (("b300_vllm", 2 * 3.0), ("b300", 0.0)):
        config = load([f"experiment={name}", "search=random", "search.prior.kind=none"])
        [first, *_] = known_trials(config)
        never = config.model_copy(update={"power": config.power.model_copy(update={"idle_s": 0})})
        without = replace(first, config=trial_config(never, first.point))
        metered, plain = (
            estimate(config, Capacity(((8, 8),)), [each]).wall_s for each in (first, without)
        )
        assert metered == pytest.approx([seconds + idle_s for seconds in plain])


def test_gpus_are_counted_each() -> None:
    price = Constant(value=2.0, source="invented", date="2026-11-01")
    hardware = Hardware(name="gpu", device="GPU", devices_per_node=8, usd_per_device_hour=price)
    config = listed(VLLM, {**VLLM, "topology.tensor_parallel": 2}).model_copy(
        update={"hardware": hardware, "topology": Topology(tensor_parallel=8)}
    )
    known = proposals(config, VLLM, {**VLLM, "topology.tensor_parallel": 2})
    figures = estimate(config, Capacity(((8, 2),)), known)
    assert figures.wall_s == (2 * 117, 2 * 317)
    assert figures.device_hours == pytest.approx(((8 + 2) * 117 / 3600, (8 + 2) * 317 / 3600))
    assert figures.usd == pytest.approx((20 * 117 / 3600, 20 * 317 / 3600))
    two_nodes = estimate(config, Capacity(((8, 2), (8, 2))), known)
    assert two_nodes.wall_s == (117, 317)


def test_an_adaptive_ladder_has_two_levels_at_least_and_all_at_most() -> None:
    config = load(["workload=adaptive", "model=llama31_8b"])
    assert load_s(config.workload) == (2 * (10 + 60), 10 * (10 + 300))


def test_loads_that_have_a_length_of_their_own() -> None:
    ramp = load(["workload.arrival={kind: ramp, from_per_s: 1, to_per_s: 9, over_s: 5}"])
    assert load_s(ramp.workload) == (5, 5)
    step = load(["workload.arrival={kind: step, rate_per_s: [1, 2], each_s: 2}"])
    assert load_s(step.workload) == pytest.approx((10.7, 10.7))
    counted = load(["workload.max_requests=20"])
    assert load_s(counted.workload) == pytest.approx((4 * 0.7, 4 * 10.7))


def test_no_price_no_dollars() -> None:
    config = sample_config(priced=False)
    assert estimate(config, ONE, proposals(config, LLAMA)).usd is None


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 4))
def test_equal_trials_go_in_rounds(trials: int, nodes: int, slots: int) -> None:
    costs = [TrialCost(Topology(tensor_parallel=2), 10.0, 2)] * trials
    capacity = Capacity(((2 * slots + 1, 0),) * nodes)
    assert makespan_s(capacity, costs) == pytest.approx(10 * math.ceil(trials / (nodes * slots)))


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.floats(1, 100)), max_size=12))
def test_packing_is_within_its_bounds(trials: list[tuple[int, float]]) -> None:
    costs = [TrialCost(Topology(tensor_parallel=gpus), wall_s, gpus) for gpus, wall_s in trials]
    took_s = makespan_s(Capacity(((8, 0),) * 2), costs)
    longest_s = max((cost.wall_s for cost in costs), default=0)
    assert took_s >= max(longest_s, sum(cost.device_s for cost in costs) / 16) - 1e-6
    assert took_s <= sum(cost.wall_s for cost in costs) + 1e-6


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=laptop"],
        ["experiment=laptop_frameworks"],
        ["experiment=b300_vllm"],
        ["search=random"],
        ["search=qmc"],
        ["search=nsga2"],
        ["search.points=[{engine.llamacpp.parallel: 2}]"],
        [
            "search.points=[{engine.llamacpp.parallel: 2, engine.llamacpp.batch_size: 256,"
            " engine.llamacpp.ubatch_size: 64, engine.llamacpp.threads: 1,"
            " engine.llamacpp.cache_type_k: f16, engine.llamacpp.flash_attn: 'on'}]"
        ],
    ],
    ids=lambda overrides: overrides[0][:40],
)
def test_the_known_trials_are_those_that_a_study_runs(overrides: list[str]) -> None:
    config = load(overrides)
    known, study = known_trials(config), SearchSetup(config).proposer()
    search = config.search
    least = search.startup_trials if search.prior.kind == "none" else len(config.engine)
    assert len(known) >= min(least, search.trials)
    results = random.Random(1)
    for proposal in known:
        asked = study.ask()
        assert asked is not None
        assert asked.point == proposal.point
        utilities = {tier: results.random() for tier in config.slo.tiers}
        study.tell(asked.number, Outcome(utilities))
    assert len(known) + unknown_trials(config, known) == config.search.trials


def test_a_screened_search_takes_less_time_and_its_confirmation_as_much() -> None:
    config = listed(LLAMA)
    screening = Screening(warmup_s=1, level_s=5, level_max_s=20)
    confirm = ConfirmConfig(candidates=2)
    search = config.search.model_copy(update={"confirm": confirm})
    whole = config.model_copy(update={"search": search})
    short = whole.model_copy(update={"search": search.model_copy(update={"screening": screening})})
    known = proposals(whole, LLAMA)
    assert estimate(short, ONE, known).wall_s == (3 + 3 + 4 * 6, 3 + 3 + 4 * 21)
    assert confirmation_cost(short, known) == confirmation_cost(whole, known)


def test_a_search_that_lists_all_its_trials_leaves_none_unknown() -> None:
    config = load(["search=grid", "space=none", "search.trials=16"])
    known = known_trials(config)
    assert (len(known), unknown_trials(config, known)) == (1, 0)
    assert estimate(config, ONE, known).trials == 1
    bench = single(load(["experiment=laptop_frameworks"]))
    assert [p.config.engine.kind for p in known_trials(bench)] == ["llamacpp", "vllm"]


def test_a_cluster_is_assumed_not_asked() -> None:
    config = load(["experiment=b300_vllm"])
    known = known_trials(config)
    capacity, said = planned_capacity(config, known, ONE)
    assert capacity.nodes == ((8, 0),)
    assert "1 node of 8 GPUs" in said
    wider = config.model_copy(update={"cluster": ClusterConfig(kind="existing", nodes=16)})
    capacity, said = planned_capacity(wider, known, ONE)
    assert capacity.slots(Topology(tensor_parallel=8)) == 16
    assert "16 nodes" in said


def test_a_trial_that_does_not_fit_this_machine_is_planned_all_the_same() -> None:
    config = load(["experiment=b300_vllm", "cluster=local", "+cluster.gpus=0"])
    here = local_capacity(config.cluster)
    capacity, said = planned_capacity(config, known_trials(config), here)
    assert capacity.slots(Topology(tensor_parallel=8)) == 1
    assert said.startswith("not on this machine: no node can hold a trial that needs 8 GPUs")
