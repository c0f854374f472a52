"""Loading as a user does it: overrides, private configs, sweeps; and the messages of mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen import Adaptive
from loadgen.workload.workload import level_count
from serving.engines import LlamaCpp, Vllm
from tuner.config.compose import compose_yaml, multirun
from tuner.config.errors import ConfigError
from tuner.config.load import load, load_saved, save
from tuner.config.resolve import default_points, fixed_values, single, trial_config
from tuner.config.study import StudyConfig
from tuner.search.space import SearchSpace


def test_the_default_is_the_laptop() -> None:
    study = load([])
    assert study == load(["experiment=laptop"])
    assert study.search.trials >= 8
    assert level_count(study.workload) >= 4
    assert size_of(study) > study.search.trials


def size_of(study: StudyConfig) -> int:
    return len(list(SearchSpace.of(study).enumerate_points()))


def test_overrides_set_knobs_that_no_yaml_lists() -> None:
    study = load(["engine.llamacpp.parallel=4", "engine.llamacpp.env.A=b", "search.trials=3"])
    engine = study.engine["llamacpp"]
    assert isinstance(engine, LlamaCpp)
    assert (engine.parallel, engine.env, study.search.trials) == (4, {"A": "b"}, 3)


def test_several_engines() -> None:
    study = load(["experiment=laptop", "engine=[llamacpp,vllm_cpu]", "space=[llamacpp,vllm_cpu]"])
    assert list(study.engine) == ["llamacpp", "vllm"]
    assert {path.split(".")[1] for path in study.space.parameters} == {"llamacpp", "vllm"}
    assert default_points(study) == {
        "llamacpp": {"engine": "llamacpp"},
        "vllm": {"engine": "vllm"},
    }
    trial = trial_config(study, {"engine": "vllm", "engine.vllm.max_num_seqs": 8})
    assert isinstance(trial.engine, Vllm)
    assert trial.engine.max_num_seqs == 8
    assert trial.engine.enforce_eager is True


def test_spaces_are_edited_from_the_command_line() -> None:
    study = load(
        [
            "space.parameters.engine.llamacpp.parallel.high=32",
            "~space.parameters.engine.llamacpp.threads",
            "space.parameters.engine.llamacpp.kv_unified={type: bool}",
        ]
    )
    assert study.space.parameters["engine.llamacpp.parallel"].grid() == [1, 2, 4, 8, 16, 32]
    assert "engine.llamacpp.threads" not in study.space.parameters
    assert "engine.llamacpp.kv_unified" in study.space.parameters


def test_a_space_from_the_command_line() -> None:
    own = "{parameters: {engine.llamacpp.parallel: {type: int, low: 1, high: 3}}}"
    assert list(load(["space=none", f"space={own}"]).space.parameters) == [
        "engine.llamacpp.parallel"
    ]


def test_a_point_changes_the_fingerprint_and_the_default_does_not() -> None:
    study = load([])
    default = trial_config(study, {})
    assert default.engine == study.engine["llamacpp"]
    assert trial_config(study, {"engine.llamacpp.parallel": 2}).fingerprint != default.fingerprint
    assert trial_config(load([]), {}).fingerprint == default.fingerprint


def test_fixed_values_leave_out_what_is_left_to_the_engine() -> None:
    fixed = fixed_values(load(["engine.llamacpp.threads=2"]))
    assert fixed["engine.llamacpp.threads"] == 2
    assert fixed["topology.cpus"] == 2
    assert "engine.llamacpp.parallel" not in fixed


def test_an_adaptive_ladder_looks_for_the_tiers_of_the_study() -> None:
    study = load(["experiment=laptop", "workload=laptop_adaptive"])
    arrival = trial_config(study, {}).workload.arrival
    assert isinstance(arrival, Adaptive)
    assert arrival.tiers == {name: tier.limits() for name, tier in study.slo.tiers.items()}
    stricter = load(
        ["experiment=laptop", "workload=laptop_adaptive", "slo.tiers.premium.ttft_p99_ms=400"]
    )
    assert trial_config(study, {}).fingerprint != trial_config(stricter, {}).fingerprint
    own = load(
        [
            "experiment=laptop",
            "workload=laptop_adaptive",
            "workload.arrival.tiers={chat: {ttft_p50_ms: 90}}",
        ]
    )
    arrival = trial_config(own, {}).workload.arrival
    assert isinstance(arrival, Adaptive)
    assert arrival.tiers == {"chat": {"ttft_p50_ms": 90}}
    fixed = load([]), load(["slo.tiers.premium.ttft_p99_ms=400"])
    assert trial_config(fixed[0], {}).fingerprint == trial_config(fixed[1], {}).fingerprint


def test_files_are_taken_from_where_the_command_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    whole = load(["workload.dataset={kind: azure, path: a.csv}"]).workload
    assert whole.dataset is not None
    assert whole.dataset.path == tmp_path / "a.csv"
    part = "{weight: 1, dataset: {kind: azure, path: a.csv}}"
    mixed = load([f"workload.mixture=[{part}]"]).workload
    assert mixed.mixture[0].dataset == whole.dataset
    with pytest.raises(ConfigError, match=r"mixture.0.dataset.path: there is no file .*b.csv"):
        load([f"workload.mixture=[{part.replace('a.csv', 'b.csv')}]"])


def test_single_is_a_study_without_a_search() -> None:
    study = single(load([]))
    assert (study.search.kind, study.search.trials) == ("list", 1)
    assert not study.space.parameters


@pytest.mark.parametrize("experiment", ["laptop", "laptop_frameworks", "b300_vllm"])
def test_a_saved_study_loads_again(tmp_path: Path, experiment: str) -> None:
    study = load([f"experiment={experiment}"])
    save(study, tmp_path)
    assert load_saved(tmp_path) == study


def test_cfg_job_composes_again(tmp_path: Path) -> None:
    text = compose_yaml(["search.trials=3"])
    assert "trials: 3" in text
    (tmp_path / "study.yaml").write_text(text)
    assert load_saved(tmp_path) == load(["search.trials=3"])


def private(folder: Path) -> Path:
    for name, text in {
        "engine/mine.yaml": "# @package engine.llamacpp\nkind: llamacpp\nthreads: 1\n",
        "experiment/ours.yaml": (
            "# @package _global_\ndefaults:\n  - laptop\n  - override /engine: mine\nname: ours\n"
        ),
        "team/a.yaml": "# @package search\nseed: 7\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_private_configs(tmp_path: Path) -> None:
    study = load(["experiment=ours", "+team=a"], private(tmp_path))
    assert (study.name, study.search.seed) == ("ours", 7)
    assert fixed_values(study)["engine.llamacpp.threads"] == 1
    assert load([], tmp_path).name == "laptop"
    with pytest.raises(ConfigError, match="there is no such experiment"):
        load(["experiment=ours"])
    with pytest.raises(ConfigError, match="no such file or directory"):
        load([], tmp_path / "absent")


def test_multirun_expands() -> None:
    jobs = multirun(["engine=llamacpp,vllm_cpu", "search.trials=range(1,3)", "search.seed=7"])
    assert jobs == [
        [f"engine={engine}", f"search.trials={trials}", "search.seed=7"]
        for engine in ("llamacpp", "vllm_cpu")
        for trials in (1, 2)
    ]
    assert multirun(["search.seed=choice(1,2)"]) == [["search.seed=1"], ["search.seed=2"]]
    assert multirun(["experiment=glob(laptop_v*)"]) == [["experiment=laptop_vllm"]]
    assert multirun(["search.seed=1"]) == [["search.seed=1"]]
    assert [load(job).search.seed for job in multirun(["search.seed=4,5"])] == [4, 5]


MISTAKES = {
    "experiment=lptop": "experiment=lptop: there is no such experiment; did you mean laptop",
    "expirement=laptop": "expirement: unknown key; did you mean experiment?",
    "engine=[llamacpp,vlm]": "engine=vlm: there is no such engine; did you mean vllm",
    "space=ready/b300_dens": "space=ready/b300_dens: there is no such space; did you mean ready/b300_dense",
    "engine.llamacpp.paralel=4": "engine.llamacpp.paralel: unknown key; did you mean parallel?",
    "engine.vlm.max_num_seqs=4": "engine.vlm: unknown name, and no kind is given; known names: llamacpp",
    "engine.llamacpp.parallel=0": "engine.llamacpp.parallel: must be ≥ 1, ≤ 1,000,000,000, not 0",
    "engine.llamacpp.kind=vlm": "engine.llamacpp.kind: there is no 'vlm'; did you mean vllm?",
    "workload.arrival.kind=posson": "workload.arrival.kind: there is no 'posson'; did you mean po",
    "workload.arrival.concurency=[1]": "workload.arrival.concurency: unknown key; did you mean con",
    "workload.input_tokens=4000": "model.context_tokens: 512 can't hold the workload's 4000 + ",
    "hardware=b300": "hardware: HGX B300 counts per GPU, but the topology takes CPU cores",
    "engine=external": "engine.external.url: a value is missing",
    "space=vllm_cpu": "space: it varies vllm, but this study has llamacpp",
    "space.parameters.engine.llamacpp.paralel={type: bool}": "paralel is not a setting; did you mean",
    "space.parameters.engine.lama.x={type: bool}": "there is no engine lama; did you mean llamacpp",
    "space.parameters.engine.llamacpp.parallel.high=0": (
        "space.parameters.engine.llamacpp.parallel: low (1) must not be above high (0)"
    ),
    "space.parameters.engine.llamacpp.parallel.type=integer": "did you mean int?",
    "space.parameters.engine.llamacpp.cache_type_k.choices=[f16,q9]": "'q9' is not possible there",
    "space.parameters.workload.seed={type: bool}": "a search varies engine, topology, model",
    "space.constraints.threads_within_cores.right=topology.cpu": "did you mean cpus?",
    "objective.metric=throughput_tok_s": "objective.metric: there is no metric throughput",
    "slo.tiers.premium.ttft_p98_ms=3": "slo.tiers.premium.ttft_p98_ms: unknown key; did you mean",
    "workload=128": "workload=128: workload is a group, and 128 is none of its options: adaptive, chat",
    "topology=8": "topology=8: topology is a group, and 8 is none of its options: cpu, cpu2",
    "search=true": "search=true: search is a group, and true is none of its options",
    "slo.tiers.standrad.ttft_p99_ms=3": "slo.tiers.standrad: unknown name; did you mean standard?",
    "search.trials=inf": "search.trials: must be ≥ 1, ≤ 1,000,000, not inf",
    "search.trials=nan": "search.trials: must be ≥ 1, ≤ 1,000,000, not nan",
    "workload.level_s=inf": "workload.level_s: must be > 0, ≤ 2,592,000, not inf",
    "workload.arrival.concurrency=[1,0]": "concurrency.1: must be > 0, ≤ 1,000,000, not 0",
    f"workload.shards=1{'0' * 23}": "workload.shards: must be > 0, ≤ 1,024, not 1000",
    f"workload.shards=1{'0' * 40}": "workload.shards: must be > 0, ≤ 1,024, not a number of 41 digits",
    "search.kind=tep": "search.kind: input should be 'list', 'grid'",
    "search.trials=${nope}": "search.trials: ",
    "search.screening.levels=5": "search.screening.levels: unknown key; did you mean level_s or",
    "search.prior.kind=twin": "search.prior: tpe uses no prior: use search.kind=curve",
    "search.cost=device_hours": "search.cost: tpe does not weigh what a trial costs: use search.kind",
    "search.stop.gain=0.01": "search.stop: tpe does not predict what the next trial gains",
    "search.points=[{engine.llamacpp.slots: 3}]": "search.points.0.engine.llamacpp.slots: ",
    "search.seed=1,2": "search.seed=1,2: several values need --multirun",
    "search.seed": "not an override (key=value)",
    "~search.nope": "search.nope",
    "name=a/b": "name: ",
    "workload.tokenizer=tok.json": "workload.tokenizer: there is no file /",
    "workload.dataset={kind: azure, path: a.csv}": "workload.dataset.path: there is no file /",
    "workload.placement=apart": "workload.placement: apart needs a node besides the engine's, and a",
    "workload.arrival={kind: adaptive, tiers: {chat: {ttft_p98_ms: 5}}}": (
        "workload.arrival.tiers.chat.ttft_p98_ms: a tier can't limit this; did you mean ttft_p"
    ),
    "workload.arrival={kind: adaptive, tiers: {chat: {interactivity_tok_s_user: 5}}}": (
        "workload.arrival.tiers.chat.interactivity_tok_s_user: a tier can't limit this"
    ),
    "space.parameters={x: {type: float, low: 0, high: 1}}": "x: ",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_has_a_message_that_helps(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override] if override.startswith("exp") else ["experiment=laptop", override])
    assert MISTAKES[override] in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://a:99999",
        "http://a:0",
        "http://a:x",
        "ftp://a",
        "a:80",
        "http://",
        "http://a b",
        "http://[::1",
    ],
)
def test_the_url_of_an_engine_is_judged_first(url: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.external\.url: expected http://HOST:PORT"):
        load(
            [
                "experiment=laptop",
                "engine=external",
                f"engine.external.url='{url}'",
                "space=none",
                "search=list",
            ]
        )


def test_a_list_is_tried_whole_unless_a_number_is_given() -> None:
    seqs = "engine.vllm.max_num_seqs"
    words = ["experiment=smoke_vllm", f"search.points=[{{{seqs}: 8}}, {{{seqs}: 16}}]"]
    assert load(words).search.trials == 3
    assert load([*words, "search.default_first=false"]).search.trials == 2
    assert load([*words, "search.trials=1"]).search.trials == 1
    two = ["engine=[vllm_cpu,llamacpp]", "experiment=smoke_vllm"]
    assert load(two).search.trials == 2


def test_a_new_tier_is_declared() -> None:
    own = ["slo.tiers.mine.ttft_p99_ms=300"]
    for words in (["+slo.tiers.mine.ttft_p99_ms=300"], ["slo.tiers.mine={tpot_p99_ms: 50}", *own]):
        assert load(words).slo.tiers["mine"].ttft_p99_ms == 300
    with pytest.raises(ConfigError, match=r"to add it: \+slo\.tiers\.mine\.ttft_p99_ms=300"):
        load(own)


def test_sweeps_that_have_no_values_or_no_end() -> None:
    for word, why in {
        "experiment=glob(nosuch*)": "nothing matches; options: b300",
        "search.seed=range(3,3)": "nothing matches",
        "search.seed=range(0,1,0)": "a step of 0 never ends",
        "search.seed=range(0,inf)": "a range needs finite ends",
        "search.seed=range(0,1000000000000)": "more than 10,000 studies",
        "search.seed=interval(0,1)": "an interval has no values to list",
    }.items():
        with pytest.raises(ConfigError) as caught:
            multirun([word])
        assert why in str(caught.value)


@pytest.mark.thorough
def test_a_grid_of_a_trillion_points_is_refused_at_once() -> None:
    many = "{type: int, low: 1, high: 1000000}"
    space = (
        f"space.parameters={{engine.llamacpp.ctx_size: {many}, engine.llamacpp.batch_size: {many}}}"
    )
    with pytest.raises(
        ConfigError, match=r"this grid has up to 1\.6e\+14 points, and at most 200,000"
    ):
        load(["search=grid", space])
    study = load(
        ["search=curve", space, "space.constraints={c: {left: 1, op: '>', right: 2, reason: no}}"]
    )
    assert SearchSpace.of(study).all_points(100) is None


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["search.trials=many", "engine.llamacpp.paralel=2"])
    assert len(str(caught.value).splitlines()) == 2


def test_too_many_gpus_for_a_node() -> None:
    study = load(["experiment=b300_vllm", "topology.pipeline_parallel=1"])
    with pytest.raises(ConfigError, match="16 GPUs do not fit a node of HGX B300, which has 8"):
        trial_config(study, {"topology.tensor_parallel": 16})


def test_a_revision_is_for_engines_that_can_fetch_it() -> None:
    assert load(["experiment=b300_vllm", "model.revision=v1"]).model.revision == "v1"
    with pytest.raises(ConfigError, match=r"^model\.revision: engine\.llamacpp has no option for"):
        load(["model.revision=v1"])


def test_points_that_are_not_trials_are_refused() -> None:
    study = load(["experiment=laptop_frameworks"])
    for point, match in (
        ({}, "must choose one of llamacpp, vllm"),
        ({"engine": "trtllm"}, "the study has no 'trtllm'"),
        ({"engine": "vllm", "engine.vllm.max_num_seqs": 0}, "engine.max_num_seqs: "),
        (
            {"engine": "vllm", "engine.llamacpp.parallel": 2},
            "engine.llamacpp.parallel: the trial has no such setting",
        ),
    ):
        with pytest.raises(ConfigError, match=match):
            trial_config(study, point)  # type: ignore[arg-type]


@pytest.mark.process
def test_loading_writes_nothing_and_imports_no_heavy_vendor(tmp_path: Path) -> None:
    code = (
        "import sys; from tuner.config.load import load; load([]); "
        "sys.exit(', '.join(m for m in ('ray', 'mlflow', 'optuna', 'plotly') if m in sys.modules))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.strip() == ""
    assert not list(tmp_path.iterdir())
