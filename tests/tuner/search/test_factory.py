"""The search on curves as a study sets it up: objective, loads, candidates, priors."""

from pathlib import Path

import numpy as np
import pytest

from tests.tuner.samples.loaded import load
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger
from tuner.search import Outcome
from tuner.search.curve.prior import Prior
from tuner.search.factory import SearchSetup, meanings_of, objective_of, traits_of
from tuner.search.priors.factory import MIN_TRIALS
from tuner.study.local_pool import simulate
from tuner.study.planning.estimate import known_trials
from tuner.study.study import Study, outcome_of
from tuner.trial.result import Completed, OperatingPoint, Timings

SPEED, RATE = "interactivity_tok_s_user", "throughput_output_tok_s_device"
SHORT = ["workload.level_s=2", "workload.warmup_s=1", "workload.arrival.concurrency=[1,8,32]"]


def b300(*more: str) -> StudyConfig:
    once = "search.confirm.candidates=0"
    return load(["experiment=b300", once, "search=curve", "engine=vllm", "space=[vllm_gpu]", *more])


def rows(prior: Prior | None, points: list[Point], loads: list[float]) -> np.ndarray:
    assert prior is not None
    return prior.curves(points, np.array(loads), [SPEED, RATE, "ttft_p99_ms"])


def test_the_objective_is_the_front_of_what_meets_a_tier() -> None:
    objective = objective_of(b300())
    assert dict(objective.axes) == {SPEED: 1, RATE: 1}
    assert objective.limits["premium"] == {"ttft_p99_ms": 1000, "tpot_p50_ms": 10}
    assert not objective.by_tier


def test_or_the_target_metric_of_each_tier_fewer_joules_too() -> None:
    objective = objective_of(b300("search.goal=tiers", "objective=energy"))
    assert objective.by_tier
    assert list(objective.axes.values()) == [-1]


def test_a_curve_ends_where_the_scheduler_admits_no_more() -> None:
    config = b300("workload.arrival.concurrency=[1,8,512]")
    traits = traits_of(config, SearchSetup(config).space)
    few = traits({"topology.tensor_parallel": 4, "engine.vllm.max_num_seqs": 64})
    assert (few.devices, few.lowest, few.highest) == (4, 1 / 4, 64 / 4)
    many = traits({"topology.tensor_parallel": 2, "engine.vllm.max_num_seqs": 1024})
    assert (many.devices, many.highest) == (2, 512 / 2)
    assert many.device_s < few.device_s


def test_a_load_without_levels_is_refused() -> None:
    ramp = "workload.arrival={kind: ramp, from_per_s: 1, to_per_s: 9, over_s: 10}"
    with pytest.raises(ConfigError, match="arrival ramp has none: use search=tpe"):
        SearchSetup(b300(ramp)).sampler()


def test_the_candidates_are_built_once_and_proposers_do_not_share_their_state() -> None:
    setup = SearchSetup(b300())
    assert setup.candidates is setup.candidates
    before = list(setup.candidates.points)
    first, second = setup.proposer(), setup.proposer()
    asked = [proposal.point for _ in range(4) if (proposal := first.ask())]
    first.tell(0, Outcome(None, failure="OutOfMemory"))
    sampler = setup.sampler()
    assert sampler is not None
    sampler.learn({"topology.tensor_parallel": 16}, None, Outcome(None, failure="OutOfMemory"))
    assert setup.candidates.points == before
    again = [proposal.point for _ in range(4) if (proposal := second.ask())]
    assert again == asked


def test_engines_share_the_meaning_of_their_knobs() -> None:
    config = load(["experiment=b300", "search=curve"])
    groups = SearchSetup(config).candidates.groups
    assert groups.count("max_sequences") == 1
    assert set(meanings_of(config).values()) == {"max_sequences", "step_tokens", "memory_fraction"}


@pytest.mark.parametrize("kind", ["twin", "roofline"])
def test_a_model_predicts_each_point(kind: str) -> None:
    config = b300(f"search.prior.kind={kind}")
    points: list[Point] = [{"topology.tensor_parallel": n} for n in (2, 8)]
    predicted = rows(SearchSetup(config).prior, points, [0.0, 3.0])
    assert np.isfinite(predicted).all()
    assert (
        predicted[1, 0, 0] > predicted[0, 0, 0]
    )  # eight GPUs are faster for a user, at one user each
    assert (predicted[:, 1, 0] < predicted[:, 0, 0]).all()


def test_what_does_not_fit_has_no_prediction() -> None:
    config = b300("search.prior.kind=twin", "hardware=h200_twin")
    predicted = rows(SearchSetup(config).prior, [{"topology.tensor_parallel": 1}], [0.0])
    assert np.isnan(predicted).all()


def test_a_prior_on_real_hardware_needs_a_twin_system() -> None:
    real = ["experiment=b300_vllm", "search.prior.system=null"]
    with pytest.raises(
        ConfigError, match=r"is real hardware: name .*search\.prior\.system=b300_sxm"
    ):
        SearchSetup(load(real)).recorder()
    assert SearchSetup(load(["experiment=b300_vllm"])).prior is not None


@pytest.mark.process
def test_an_older_study_predicts_this_one(tmp_path: Path) -> None:
    old = b300(*SHORT, "search=qmc", "search.trials=9")
    with Ledger.open(tmp_path) as ledger:
        simulate(Study(old, ledger, []), workers=1)
        measured = [e for e in ledger.results() if e.result.status == "completed"]
    assert len(measured) >= MIN_TRIALS
    config = b300(*SHORT, "search.prior.kind=ledger", f"search.prior.study={tmp_path}")
    gpus = [each.result.config.devices for each in measured]
    predicted = rows(
        SearchSetup(config).prior, [each.point for each in measured], [-3.0, -2.0, -1.0, 0.0]
    )
    alone = [predicted[i, 3 - int(np.log2(n)), 0] for i, n in enumerate(gpus)]  # one user in all
    speeds = [e.result.points[0].metrics[SPEED] for e in measured]
    assert np.corrcoef(alone, np.log(speeds))[0, 1] > 0.8


def test_a_study_without_enough_trials_is_no_prior(tmp_path: Path) -> None:
    config = b300("search.prior.kind=ledger", f"search.prior.study={tmp_path}")
    with pytest.raises(ConfigError, match="has 0 completed trials: a prior needs at least 5"):
        SearchSetup(config).recorder()
    with pytest.raises(ConfigError, match=r"there is no folder .*/gone"):
        SearchSetup(
            b300("search.prior.kind=ledger", f"search.prior.study={tmp_path}/gone")
        ).recorder()
    with pytest.raises(ConfigError, match="name the folder of a study"):
        SearchSetup(b300("search.prior.kind=ledger")).recorder()


@pytest.mark.process
def test_a_stopped_search_resumes(tmp_path: Path) -> None:
    config = b300(*SHORT, "search.trials=7", "search.startup_trials=4")
    with Ledger.open(tmp_path / "whole") as ledger:
        simulate(Study(config, ledger, []), workers=1)
        whole = [each.point for each in ledger.results()]
    half = config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})})
    with Ledger.open(tmp_path / "cut") as ledger:
        simulate(Study(half, ledger, []), workers=1)
    with Ledger.open(tmp_path / "cut") as ledger:
        simulate(Study(config, ledger, []), workers=1)
        resumed = [each.point for each in ledger.results()]
    # Two trials are asked for at once: by the cut some came from results that the whole run did not have yet.
    assert resumed[:4] == whole[:4]
    assert len(resumed) == 7
    assert len({str(point) for point in resumed}) == 7


@pytest.mark.process
def test_a_plan_names_the_initial_design_and_no_more(tmp_path: Path) -> None:
    config = b300(*SHORT, "search.trials=8", "search.startup_trials=6")
    known = known_trials(config)
    assert len(known) == 6  # the default among them
    with Ledger.open(tmp_path) as ledger:
        simulate(Study(config, ledger, []), workers=1)
        tried = {entry.number: entry.point for entry in ledger.results()}
    assert [tried[number] for number in range(6)] == [proposal.point for proposal in known]


def test_a_proposer_over_curves_takes_the_default_first() -> None:
    first = SearchSetup(b300()).proposer().ask()
    assert first is not None
    assert first.point == {}


def test_a_level_with_errors_is_no_part_of_the_curve() -> None:
    config = b300()
    trial = trial_config(config, {})
    points = tuple(
        OperatingPoint(i, f"closed {i + 1}", {SPEED: 9.0, RATE: 9.0, "error_rate": share})
        for i, share in enumerate((0.0, 0.2))
    )
    outcome = outcome_of(config, Completed(trial, points, Timings(1, 1, 1), ""))
    assert outcome.points == points[:1]
