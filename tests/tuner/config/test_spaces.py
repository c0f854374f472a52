"""The ready spaces: what they hold, and that no version of an engine refuses a point of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import pytest

from serving.engines import Launch
from serving.engines.flags.check import check
from serving.engines.flags.schema import Chosen, schema_of, versions
from tests.tuner.samples.drawn import DrawnTrial, built, drawn_trials
from tests.tuner.samples.loaded import load
from tuner.config.compose import conf_dir
from tuner.config.groups.space import activating, offers_unset, values_to_try
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.search.factory import SearchSetup

SPACES = conf_dir() / "space"
READY = sorted(path.stem for path in (SPACES / "ready").glob("*.yaml"))
KINDS = ("vllm", "sglang", "trtllm")
KNOBS_MIN = 12
FEW, MANY = 60, 1000  # random points
# Keys of TensorRT-LLM's YAML that its documentation has, and the list of its repository leaves out.
DOCUMENTED = {"kv_cache_config", "speculative_config"}
MODELS = {"dense": "llama33_70b", "moe": "qwen3_235b_a22b"}
# Words of `space=`, besides each ready space by itself.
COMBINED = [
    *("vllm_gpu,sglang_gpu,trtllm_gpu,speculation", "speculation_ngram,moe_layouts"),
    *("sglang_gpu,sglang_moe_layouts", "power_cap,llama33_70b_precision"),
    *("ready/b300_moe,parts/mla_blackwell,speculation", "ready/h200_moe,parts/mla_hopper"),
    *("ready/b200_moe,parts/gqa_blackwell", "ready/h100_moe,parts/gqa_hopper,speculation"),
]


def study(space: str, *more: str) -> StudyConfig:
    """Three engines on emulated nodes: only an emulated board takes a power limit everywhere."""
    return load([
        *("experiment=b300_frameworks", "hardware=b300_twin", "search=qmc"),
        *("search.prior.kind=none", f"space=[{space}]", *more),
    ])  # fmt: skip


def ready(name: str) -> StudyConfig:
    gpu, kind = name.split("_")
    return study(f"ready/{name}", f"hardware={gpu}", f"model={MODELS[kind]}")


@pytest.mark.parametrize("gpu", ["b300", "b200", "h200", "h100"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_ready_space_has_enough_knobs_of_each_engine(gpu: str, kind: str) -> None:
    space = ready(f"{gpu}_{kind}").space
    for engine in KINDS:
        own = [p for p in space.parameters if p.startswith((f"engine.{engine}.", "topology."))]
        assert len(own) >= KNOBS_MIN, own
        assert {f"engine.{engine}.speculation.{knob}" for knob in ("method", "depth")} <= set(own)
    assert ("topology.expert_parallel" in space.parameters) == (kind == "moe")


def test_every_knob_of_a_part_has_a_reason_beside_it() -> None:
    """The line above it is a comment; the layout's two are explained by the file's."""
    for path in sorted((SPACES / "parts").glob("*.yaml")):
        lines = path.read_text().splitlines()
        assert lines[1].startswith("# "), path
        if path.stem in ("b300", "h100"):
            continue
        for before, line in pairwise(lines):
            knob = line.strip().partition(":")[0]
            if "type:" in line and not line.strip().startswith("{") and ".depth" not in knob:
                assert before.strip().startswith("#") or "_backend" in knob, (path.name, knob)


@pytest.mark.parametrize("name", READY)
def test_beside_unset_there_is_no_value_that_repeats_it(name: str) -> None:
    """No knob that can be left out offers what its engine takes then."""
    config = ready(name)
    for path, parameter in config.space.parameters.items():
        if not offers_unset(parameter):
            continue
        engine, wanted = path.split(".")[1], activating(config.space, path)
        unset, *others = (
            built(config, engine, {**wanted, path: value}).engine.canonical()
            for value in sorted(values_to_try(parameter), key=lambda each: each is not None)
        )
        assert unset == built(config, engine, wanted).engine.canonical(), path
        assert unset not in others, path


def test_a_ready_space_may_be_composed_with_others() -> None:
    config = study("ready/b300_moe,parts/mla_blackwell,speculation")
    parameters = config.space.parameters
    assert values_to_try(parameters["engine.vllm.attention_backend"])[1] == "CUTLASS_MLA"
    assert values_to_try(parameters["engine.sglang.speculation.method"]) == ["none", "mtp"]
    assert values_to_try(parameters["engine.sglang.speculation.depth"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("name", READY)
def test_points_of_a_ready_space_are_trials_and_the_search_proposes_them(name: str) -> None:
    config = ready(name)
    proposer = SearchSetup(config).proposer()
    for _ in range(5):
        proposal = proposer.ask()
        assert proposal is not None
        trial_config(config, proposal.point)


@pytest.mark.parametrize("space", [*(f"ready/{name}" for name in READY), *COMBINED])
def test_no_version_refuses_a_flag_of_some_random_points(space: str) -> None:
    assert refused(study(space), FEW) == {}


@pytest.mark.thorough
@pytest.mark.parametrize("name", READY)
def test_no_version_refuses_a_flag_of_a_thousand_random_points(name: str) -> None:
    """By the schemas of the versions; their own parsers: `make bench-parsers`."""
    assert refused(study(f"ready/{name}"), MANY) == {}


def refused(config: StudyConfig, count: int) -> dict[tuple[str, str], list[str]]:
    """(Engine, version) → what it refuses. A flag with its values is looked at once."""
    words = defaultdict[tuple[str, str], set[tuple[str, ...]]](set)
    keys = defaultdict[str, set[str]](set)
    for trial in drawn_trials(config, count):
        kind = trial.engine.kind
        known = versions(kind)
        # Only TensorRT-LLM's words depend on the version.
        for version in known if kind == "trtllm" else known[-1:]:
            words[kind, version] |= set(_flags(trial, version))
        keys[kind] |= set(json.loads(trial.engine.options(_launch(trial, None)) or "{}"))
    for kind, newest in [each for each in words if each[0] != "trtllm"]:
        words |= {(kind, version): words[kind, newest] for version in versions(kind)}
    return {**_refused(words), **_unknown_keys(keys)}


def _refused(
    words: Mapping[tuple[str, str], Iterable[tuple[str, ...]]],
) -> dict[tuple[str, str], list[str]]:
    found = {}
    for (kind, version), flags in words.items():
        known = Chosen(schema_of(kind, version), True, "")
        texts = sorted(each.text for flag in flags for each in check(known, flag) if each.fatal)
        if texts:
            found[kind, version] = texts
    return found


def _unknown_keys(keys: Mapping[str, set[str]]) -> dict[tuple[str, str], list[str]]:
    """Of TensorRT-LLM's YAML, as far as a version's keys are known."""
    found = {}
    for kind, used in keys.items():
        for version in versions(kind):
            known = schema_of(kind, version).yaml
            if known and (unknown := sorted(used - set(known) - DOCUMENTED)):
                found[kind, version] = unknown
    return found


def _flags(trial: DrawnTrial, version: str) -> Iterator[tuple[str, ...]]:
    """Each flag of the command line with its values."""
    group: list[str] = []
    for word in trial.engine.command(_launch(trial, version)):
        if word.startswith("--"):
            if group:
                yield tuple(group)
            group = [word]
        elif group:
            group.append(word)
    yield tuple(group)


def _launch(trial: DrawnTrial, version: str | None) -> Launch:
    return Launch("x", "/m", "m", "127.0.0.1", 8000, trial.topology, 4096, version=version)
