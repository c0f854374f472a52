"""`null` among the choices leaves a setting out: wherever a point goes, that is the engine's own default."""

from pathlib import Path

import numpy as np
import pytest

from tests.tuner.samples.loaded import load
from tests.tuner.samples.study import sample_result
from tuner.analysis.effects.reverted import Changes
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.load import load as load_from
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.results.entry import knobs
from tuner.results.ledger import Ledger, results
from tuner.search import Outcome
from tuner.search.curve.encoding import Encoder
from tuner.search.factory import SearchSetup
from tuner.search.optuna_samplers import OptunaSampler
from tuner.search.space import SearchSpace
from tuner.tracking.runs import params
from tuner.trial.behaviour import identity
from tuner.trial.engine_settings import EngineSettings
from tuner.trial.result import Measured

V = "engine.vllm."
BACKEND, SEQS, WATERMARK = f"{V}attention_backend", f"{V}max_num_seqs", f"{V}flags.watermark"
METHOD, DEPTH = f"{V}speculation.method", f"{V}speculation.depth"


def study(*words: str) -> StudyConfig:
    base = ("experiment=b300_vllm", "search.prior.kind=none", "space=none")
    return load([
        *base,
        f"space.parameters.{BACKEND}={{type: categorical, choices: [null, FLASHINFER, FLASH_ATTN]}}",
        f"space.parameters.{SEQS}={{type: categorical, choices: [64, null, 256]}}",
        *words,
    ])  # fmt: skip


def test_hydra_reads_it_from_yaml_and_from_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    text = f"parameters:\n  {BACKEND}: {{type: categorical, choices: [null, FLASHINFER]}}\n"
    (tmp_path / "space" / "own.yaml").write_text(text)
    from_file = load_from(["experiment=b300_vllm", "search.prior.kind=none", "space=own"], tmp_path)
    assert from_file.space.parameters[BACKEND].grid() == [None, "FLASHINFER"]
    assert study().space.parameters[BACKEND].grid() == [None, "FLASHINFER", "FLASH_ATTN"]


@pytest.mark.parametrize("kind", ["grid", "random", "qmc", "tpe", "nsga2", "curve"])
def test_every_search_draws_it_and_the_default_once(kind: str) -> None:
    """Nine combinations, of which the one with both unset is the default trial."""
    config = study(f"search.kind={kind}", "search.trials=20")
    proposer, points, seen = SearchSetup(config).proposer(), list[Point](), set[str]()
    for _ in range(9):
        proposal = proposer.ask()
        assert proposal is not None
        points.append(proposal.point)
        seen.add(identity(proposal.config))
        values = dict.fromkeys(config.slo.tiers, float(len(points)))
        proposer.tell(proposal.number, Outcome(values))
    assert len(seen) == 9
    assert points[0] == {}
    assert {BACKEND: None, SEQS: 64} in points
    assert {BACKEND: None, SEQS: None} not in points


def test_optuna_learns_from_the_default_trial() -> None:
    """It has no value in its point, and one in the space."""
    config = study("search.kind=tpe")
    sampler = OptunaSampler(config.search, SearchSpace.of(config), list(config.slo.tiers))
    values = dict.fromkeys(config.slo.tiers, 1.0)
    for point in ({}, {BACKEND: "FLASHINFER"}, {BACKEND: None, SEQS: 64}):
        sampler.learn(point, None, Outcome(values))
    assert [trial.params for trial in sampler._study.trials] == [
        {BACKEND: None, SEQS: None},
        {BACKEND: "FLASHINFER", SEQS: None},
        {BACKEND: None, SEQS: 64},
    ]


def test_unset_the_default_by_its_name_and_the_default_are_one_point() -> None:
    config = study("search=list", "search.trials=9", "search.points="
                   f"[{{{BACKEND}: null}}, {{{V}kv_cache_dtype: auto, {SEQS}: null}}, "
                   f"{{{BACKEND}: FLASHINFER, {SEQS}: null}}, {{{BACKEND}: FLASHINFER}}]")  # fmt: skip
    proposer, points = SearchSetup(config).proposer(), list[Point]()
    while (proposal := proposer.ask()) is not None:
        points.append(proposal.point)
    assert points == [{}, {BACKEND: "FLASHINFER", SEQS: None}]
    plain, named = (trial_config(config, point) for point in ({}, {BACKEND: None, SEQS: None}))
    assert named.fingerprint == plain.fingerprint


def test_it_takes_back_what_the_study_configures() -> None:
    config = study(f"{BACKEND}=FLASH_ATTN", f"{WATERMARK}=0.1", f"{V}env.NCCL_DEBUG=INFO")
    point = {BACKEND: None, WATERMARK: None, f"{V}env.NCCL_DEBUG": None}
    assert trial_config(config, {}).engine.model_dump()["flags"] == {"watermark": 0.1}
    taken_back = trial_config(config, point)
    assert taken_back.fingerprint == trial_config(study(), {}).fingerprint
    assert "attention_backend=unset" in knobs(point)


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ("vllm", WATERMARK),
        ("vllm", f"{V}env.NCCL_DEBUG"),
        ("vllm", METHOD),
        ("vllm", DEPTH),
        ("trtllm", "engine.trtllm.llm_options.moe_config.backend"),
        ("trtllm", "engine.trtllm.cuda_graph_config.max_batch_size"),
    ],
)
def test_keys_inside_a_setting_can_be_left_out(engine: str, path: str) -> None:
    values = (
        "[null, ngram]" if path == METHOD else "[null, 0.5]" if path == WATERMARK else "[null, 3]"
    )
    config = load([
        *("experiment=b300_frameworks", "search.prior.kind=none", f"engine={engine}", "space=none"),
        f"space.parameters.{path}={{type: categorical, choices: {values}}}",
    ])  # fmt: skip
    plain, without = (trial_config(config, point) for point in ({}, {path: None}))
    assert without.engine == plain.engine
    assert without.fingerprint == plain.fingerprint


def test_a_setting_that_has_to_have_a_value_is_refused_in_one_line() -> None:
    tensor = "topology.tensor_parallel"
    with pytest.raises(ConfigError, match=f"{tensor}: null is not possible there") as refused:
        study(f"space.parameters.{tensor}={{type: categorical, choices: [null, 8]}}")
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ConfigError, match=rf"points\.0\.{tensor}: null is not possible there"):
        study(f"search.points=[{{{tensor}: null}}]")


def test_a_condition_may_ask_for_it() -> None:
    when = f"when: {{{BACKEND}: null}}"
    path = f"{V}kv_cache_dtype"
    config = study(f"space.parameters.{path}={{type: categorical, choices: [auto, fp8], {when}}}")
    space = SearchSpace.of(config)
    assert path in space.active({BACKEND: None})
    assert path not in space.active({BACKEND: "FLASHINFER"})
    assert {path in point for point in space.enumerate_points() if point[BACKEND]} == {False}


def test_the_ledger_keeps_it(tmp_path: Path) -> None:
    config = study()
    point: Point = {BACKEND: None, SEQS: 64}
    trial = trial_config(config, point)
    with Ledger.open(tmp_path) as ledger:
        for number in range(2):
            ledger.asked(number, point, trial.fingerprint)
            ledger.finished(number, point, Measured(sample_result(trial, 0), {}))
    first, second = results(tmp_path)
    assert first.point == second.point == point
    assert second.result.config == trial
    assert second.knobs == "attention_backend=unset max_num_seqs=64"
    assert params(config, second)["attention_backend"] == "default"


def test_the_model_sees_a_value_of_its_own_which_is_that_of_the_default() -> None:
    encoder = Encoder(SearchSpace.of(study()))
    points: list[Point] = [
        {},
        {BACKEND: None, SEQS: None},
        {BACKEND: "FLASHINFER", SEQS: None},
        {BACKEND: None, SEQS: 64},
        {BACKEND: None, SEQS: 256},
    ]
    rows = encoder.encode(points)
    assert np.array_equal(rows[0], rows[1])
    assert len(np.unique(rows, axis=0)) == 4
    assert np.isfinite(rows).all()


def test_a_condition_that_does_not_hold_is_no_unset_choice() -> None:
    config = study(
        f"space.parameters.{METHOD}={{type: categorical, choices: [none, ngram]}}",
        f"space.parameters.{DEPTH}={{type: categorical, choices: [null, 4], when: {{{METHOD}: ngram}}}}",
    )
    space = SearchSpace.of(config)
    assert space.unset({METHOD: "ngram"}, DEPTH)
    assert not space.unset({METHOD: "none"}, DEPTH)


def test_it_is_no_change_from_the_default() -> None:
    settings = EngineSettings(study())
    assert settings.unset == {}
    assert settings.same({}, {BACKEND: None, SEQS: None})
    assert not settings.same({}, {BACKEND: "FLASHINFER"})
    changes = Changes({}, {SEQS: 64})
    assert changes.point(SearchSpace.of(study())) == {SEQS: 64}


def test_a_knob_that_only_a_condition_activates_has_an_effect() -> None:
    config = study(
        f"space.parameters.{METHOD}={{type: categorical, choices: [none, ngram]}}",
        f"space.parameters.{DEPTH}={{type: categorical, choices: [2, 4], when: {{{METHOD}: ngram}}}}",
    )
    assert EngineSettings(config).inert == frozenset()
