"""Two versions of one engine in one study: their names, the space of their kind, and results apart."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from serving.engines import LlamaCpp
from serving.launch import plan_command, version_here
from tests.tuner.samples.study import sample_config, sample_result
from tuner.config.errors import ConfigError
from tuner.config.groups.space import Point
from tuner.config.groups.variants import with_variants
from tuner.config.load import load
from tuner.config.resolve import trial_config
from tuner.config.trial import fingerprint_of
from tuner.report.plots.style import engine_colours
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger, knobs, results
from tuner.search.space import SearchSpace
from tuner.trial.behaviour import behaviour
from tuner.trial.flag_check import judge_flags
from tuner.trial.result import Measured

NEXT = "+engine.next={kind: vllm, executable: /opt/next/bin/vllm}"


def test_a_variant_has_the_space_of_its_kind() -> None:
    study = load(["experiment=b300_vllm", NEXT])
    own = {p for p in study.space.parameters if p.startswith("engine.next.")}
    of_kind = {p for p in study.space.parameters if p.startswith("engine.vllm.")}
    assert {p.removeprefix("engine.next.") for p in own} == {
        p.removeprefix("engine.vllm.") for p in of_kind
    }
    assert own
    named = {path for each in study.space.constraints.values() for path in each.paths()}
    assert named & own
    assert with_variants(study.space, {"vllm": "vllm", "next": "vllm"}) == study.space
    space = SearchSpace.of(study)
    assert {space.engine_of(point) for point in (space.all_points(10**6) or [])} <= {"vllm", "next"}


def test_what_a_space_says_of_a_variant_itself_counts() -> None:
    own = "+space.parameters.engine.next.max_num_seqs={type: categorical, choices: [7]}"
    parameters = load(["experiment=b300_vllm", NEXT, own]).space.parameters
    assert list(parameters["engine.next.max_num_seqs"].grid() or ()) == [7]
    assert parameters["engine.vllm.max_num_seqs"].grid() != [7]


def test_a_point_reaches_the_variant_that_it_names() -> None:
    study = load(["experiment=b300_vllm", NEXT])
    trial = trial_config(study, {"engine": "next", "engine.next.max_num_seqs": 64})
    assert trial.engine.executable == "/opt/next/bin/vllm"
    assert trial.engine.kind == "vllm"


def test_variants_are_told_apart_in_the_report(tmp_path: Path) -> None:
    engines = {"llamacpp": LlamaCpp(), "b10500": LlamaCpp(executable="/opt/b10500/llama-server")}
    study = sample_config().model_copy(update={"engine": engines})
    points: list[Point] = [{"engine": name} for name in engines]
    with Ledger.open(tmp_path) as ledger:
        for number, point in zip((0, 2), points, strict=True):
            trial = trial_config(study, point)
            ledger.asked(number, point, trial.fingerprint)
            ledger.finished(number, point, Measured(sample_result(trial, number), {}))
    assert [entry.engine for entry in results(tmp_path)] == list(engines)
    console = Console(file=io.StringIO(), width=160)
    show_report(tmp_path, study, console)
    assert isinstance(console.file, io.StringIO)
    assert "b10500" in console.file.getvalue()


def test_no_two_variants_have_one_colour() -> None:
    names = ["vllm", "next", "sglang", "old", "next"]
    colours = engine_colours(names)
    assert list(colours) == ["vllm", "next", "sglang", "old"]
    assert len(set(colours.values())) == 4


def test_knobs_of_one_last_name_are_told_apart() -> None:
    point: Point = {
        "engine": "trtllm",
        "topology.tensor_parallel": 4,
        "engine.trtllm.max_batch_size": 512,
        "engine.trtllm.cuda_graph_config.max_batch_size": 256,
        "engine.trtllm.speculation.depth": 3,
    }
    assert knobs(point) == (
        "tensor_parallel=4 max_batch_size=512 cuda_graph_config.max_batch_size=256 speculation.depth=3"
    )


def test_two_images_of_one_framework_are_two_configurations() -> None:
    ours = "engine.vllm.container={image: 'vllm/vllm-openai:v0.33.0'}"
    other = (
        "+engine.next={kind: vllm, container: {runtime: podman, image: 'vllm/vllm-openai:v0.32.0'}}"
    )
    study = load(["experiment=b300_vllm", ours, other])
    trials = [trial_config(study, {"engine": name}) for name in ("vllm", "next")]
    assert behaviour(trials[0]) != behaviour(trials[1])
    assert trials[0].fingerprint != trials[1].fingerprint
    assert [version_here(trial.engine) for trial in trials] == ["0.33.0", "0.32.0"]
    commands = [plan_command(each.engine, each.model, each.topology) for each in trials]
    for command, runtime, image in zip(
        commands, ("docker run", "podman run"), ("v0.33.0", "v0.32.0"), strict=True
    ):
        assert f"{runtime} --init" in command
        assert f"--entrypoint vllm vllm/vllm-openai:{image} serve" in command


def test_without_a_container_the_fingerprint_is_what_it_was() -> None:
    trial = trial_config(load(["experiment=b300_vllm"]), {"engine": "vllm"})
    data = trial.model_dump(mode="json")
    assert data["engine"].pop("container") is None
    assert fingerprint_of(data) == trial.fingerprint


def test_the_flags_of_an_image_are_those_of_its_version() -> None:
    gone = "+engine.sglang.extra_args=[--no-such-flag]"
    image = "+engine.sglang.container={image: 'lmsysorg/sglang:v0.5.23-cu130'}"
    study = load(["experiment=b300_frameworks", gone, image])
    verdict = judge_flags(study, {"sglang": version_here(study.engine["sglang"])})
    assert any("SGLang 0.5.23 has no --no-such-flag" in line for line in verdict.errors)


def test_a_server_that_runs_already_has_no_container() -> None:
    wrong = "+engine.external.container={image: x}"
    with pytest.raises(ConfigError, match=r"engine\.external\.container: .*runs already"):
        load(["experiment=endpoint", "engine.external.url=http://h:1", "model.name=m", wrong])
