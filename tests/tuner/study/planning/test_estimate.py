"""The estimate of a study: its trials, and ranges that hold what the study then takes."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.topology import Topology
from tests.benchmarks.bench_plan import TRUTHS, WAYS, WIDTH_MAX, compared, measured
from tests.benchmarks.plan_studies import Took
from tests.tuner.samples.loaded import load
from tests.tuner.samples.study import sample_config
from tuner.config.groups.cluster import ClusterConfig
from tuner.config.groups.quality import QualityConfig
from tuner.config.groups.search import Screening, SearchConfig
from tuner.config.groups.space import Point
from tuner.config.resolve import single, trial_config
from tuner.config.study import StudyConfig
from tuner.search import Outcome, Proposal
from tuner.search.factory import SearchSetup
from tuner.study.capacity import Capacity
from tuner.study.local_cluster import local_capacity
from tuner.study.planning.draws import Factors, Job
from tuner.study.planning.estimate import (
    StudyEstimate,
    estimate,
    estimate_of,
    known_trials,
    likely_trials,
    makespan_s,
    planned_capacity,
    study_plan,
    unknown_trials,
)

LLAMA, VLLM = {"engine": "llamacpp"}, {"engine": "vllm"}
ONE, TWO = Capacity(((0, 2),)), Capacity(((0, 4),))  # as many trials of two cores at once
NODE = Capacity(((8, 8),))


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


def planned(*overrides: str) -> StudyEstimate:
    config = load(overrides)
    known = known_trials(config)
    return estimate(config, planned_capacity(config, known, ONE)[0], known)


def test_two_at_a_time_take_half_the_time_and_no_less_money() -> None:
    one, two = (estimated(each, LLAMA, LLAMA, LLAMA, LLAMA) for each in (ONE, TWO))
    assert two.wall_s.likely == pytest.approx(one.wall_s.likely / 2, rel=0.1)
    assert two.device_hours == one.device_hours
    assert one.usd == one.device_hours.times(0.09)


def test_twice_the_trials_take_twice_the_time() -> None:
    few, many = (planned("experiment=laptop", f"search.trials={n}") for n in (10, 20))
    assert (few.trials.likely, many.trials.likely) == (10, 20)
    assert many.wall_s.likely == pytest.approx(2 * few.wall_s.likely, rel=0.15)


@pytest.mark.thorough
def test_a_very_long_study_is_planned_in_proportion() -> None:
    config = load(["experiment=b300", "search=tpe"])
    plan = study_plan(config, NODE, known_trials(config), None, {})
    figures = [estimate_of(replace(plan, trials=(n, n)), NODE) for n in (1_000, 100_000)]
    assert figures[1].trials.likely == 100_000
    assert figures[1].wall_s.likely == pytest.approx(100 * figures[0].wall_s.likely, rel=0.2)


def test_one_configuration_is_one_trial_and_its_repeats() -> None:
    figures = planned("experiment=b300_vllm", "space=none")
    assert (figures.trials.low, figures.trials.high) == (1, 1)
    assert (figures.starts.low, figures.starts.high) == (3, 3)
    assert 0.3 * 3600 < figures.wall_s.low < figures.wall_s.high < 1.5 * 3600
    assert figures.wall_s.high <= 3 * figures.wall_s.low


def test_the_quality_gates_answers_take_time_where_there_are_some() -> None:
    one = (
        "experiment=b300_vllm",
        "search=list",
        "search.points=[{}]",
        "search.confirm.candidates=0",
    )
    none, few, many = (planned(*one, f"quality={name}") for name in ("none", "quick", "standard"))
    answers = [each.wall_s.likely - none.wall_s.likely for each in (few, many)]
    assert answers[0] > 0.2
    # 2 × 20 answers of 10 tokens, 4 at a time, and 2 × 64 of 32, 8 at a time.
    assert answers[1] == pytest.approx(answers[0] * (8 * 32) / (5 * 10), rel=0.2)


def test_a_small_space_ends_the_search() -> None:
    config = load(["search=tpe", "search.trials=50", "experiment=laptop", "space=none"])
    assert (len(known_trials(config)), unknown_trials(config, known_trials(config))) == (1, 0)


def test_the_weights_decide_how_long_a_start_takes() -> None:
    small, large = (
        planned("experiment=b300_vllm", "space=none", f"model={name}").first_start_s.likely
        for name in ("llama31_8b", "llama33_70b")
    )
    assert 60 < small < 70
    assert 100 < large < 130


def test_earlier_studies_move_the_range_and_narrow_it() -> None:
    config = load(["experiment=b300_vllm", "space=none"])
    known = known_trials(config)
    before = estimate(config, NODE, known)
    slow = {"vllm": Factors(latency=math.log(2), start=math.log(3), studies=4)}
    after = estimate(config, NODE, known, factors=slow)
    assert after.first_start_s.likely == pytest.approx(3 * before.first_start_s.likely, rel=0.2)
    assert after.first_load_s.likely > 1.2 * before.first_load_s.likely
    widths = [each.first_start_s.high / each.first_start_s.low for each in (before, after)]
    assert widths[1] < 0.8 * widths[0]
    assert (before.earlier, after.earlier) == (0, 4)


def test_a_busy_machine_takes_longer() -> None:
    config = listed(LLAMA, LLAMA)
    known = proposals(config, LLAMA, LLAMA)
    idle, busy = (estimate(config, ONE, known, busy=times) for times in (1.0, 4.0))
    assert busy.first_start_s.likely == pytest.approx(4 * idle.first_start_s.likely, rel=0.05)
    assert busy.wall_s.likely > 1.1 * idle.wall_s.likely


@pytest.mark.thorough
def test_studies_took_what_is_planned() -> None:
    """Those of the last `make bench-plan`, which ran them all; their seeds chose no constant."""
    truths = json.loads(TRUTHS.read_text())
    assert len(truths) >= 30
    rows = [row for seed, took in truths.items() for row in compared(int(seed), Took(*took))]
    for way in WAYS:
        mine = [row for row in rows if row.way == way]
        for what in (0, 1):  # wall time, device-hours
            assert sum(row.inside[what] for row in mine) >= 0.8 * len(mine), way
            assert sum(row.widths[what] <= WIDTH_MAX for row in mine) >= 0.95 * len(mine), way


@pytest.mark.thorough
def test_a_study_of_the_bench_takes_what_it_took() -> None:
    truths = json.loads(TRUTHS.read_text())
    took = measured(int(next(iter(truths))))
    assert took is not None
    expected = truths[next(iter(truths))]
    assert [took.wall_s, took.device_hours, took.trials] == pytest.approx(expected, rel=1e-3)


def test_idle_power_is_metered_twice() -> None:
    for name, idle_s in (("b300_vllm", 2 * 3.0), ("b300", 0.0)):
        config = load([f"experiment={name}"])
        [first, *_] = known_trials(config)
        never = config.model_copy(update={"power": config.power.model_copy(update={"idle_s": 0})})
        without = replace(first, config=trial_config(never, first.point))
        metered, plain = (
            estimate(config, NODE, [each]).first_start_s.likely for each in (first, without)
        )
        assert metered - plain == pytest.approx(idle_s)


def test_gpus_are_counted_each() -> None:
    config = load(["experiment=b300_vllm", "space=none", "search.confirm.candidates=0"])
    eight = estimate(config, NODE, known_trials(config))
    hours = eight.wall_s.times(8 / 3600)
    assert eight.device_hours.likely == pytest.approx(hours.likely)
    assert eight.usd is not None
    assert eight.usd.high == pytest.approx(2.52 * hours.high)


def test_no_price_no_dollars() -> None:
    config = sample_config(priced=False)
    assert estimate(config, ONE, proposals(config, LLAMA)).usd is None


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 4))
def test_equal_trials_go_in_rounds(trials: int, nodes: int, slots: int) -> None:
    costs = [Job(Topology(tensor_parallel=2), 2, 10.0)] * trials
    capacity = Capacity(((2 * slots + 1, 0),) * nodes)
    assert makespan_s(capacity, costs) == pytest.approx(10 * math.ceil(trials / (nodes * slots)))


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.floats(1, 100)), max_size=12))
def test_packing_is_within_its_bounds(trials: list[tuple[int, float]]) -> None:
    costs = [Job(Topology(tensor_parallel=gpus), gpus, wall_s) for gpus, wall_s in trials]
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


def test_a_screened_search_takes_less_time() -> None:
    config = listed(LLAMA).model_copy(update={"quality": QualityConfig(check="none")})
    screening = Screening(warmup_s=1, level_s=5, level_max_s=20)
    search = config.search.model_copy(update={"screening": screening})
    short = config.model_copy(update={"search": search})
    times = [
        estimate(each, ONE, proposals(each, LLAMA)).search_s.likely for each in (config, short)
    ]
    assert times[1] < 0.7 * times[0]


def test_the_next_trials_are_shown_before_any_result() -> None:
    config = load(["experiment=laptop"])
    known = known_trials(config)
    more = likely_trials(config, known, 2)
    assert [each.number for each in more] == [len(known), len(known) + 1]
    assert likely_trials(load(["search=random"]), known, 2) == []


def test_a_search_that_lists_all_its_trials_leaves_none_unknown() -> None:
    config = load(["search=grid", "space=none", "search.trials=16"])
    known = known_trials(config)
    assert (len(known), unknown_trials(config, known)) == (1, 0)
    assert estimate(config, ONE, known).trials.likely == 1
    bench = single(load(["experiment=laptop_frameworks"]))
    assert [p.config.engine.kind for p in known_trials(bench)] == ["llamacpp", "vllm", "sglang"]


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
