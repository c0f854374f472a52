"""What configurations amount to for their engines: aliases, defaults under their own name, ignored flags."""

import pytest

from tuner.config.groups.space import Point
from tuner.config.load import load
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.trial.behaviour import behaviour
from tuner.trial.engine_settings import EngineSettings

TWIN = load(["experiment=b300"])
REAL = load(["experiment=b300_frameworks"])
V, S, T = "engine.vllm.", "engine.sglang.", "engine.trtllm."


def same(study: StudyConfig, engine: str, one: Point, other: Point) -> bool:
    points = ({"engine": engine, **one}, {"engine": engine, **other})
    first, second = (behaviour(trial_config(study, point)) for point in points)
    return first == second


@pytest.mark.parametrize(
    ("engine", "one", "other", "equal"),
    [
        ("vllm", {}, {V + "async_scheduling": False}, True),  # the twin ignores it
        ("vllm", {}, {V + "kv_cache_dtype": "auto"}, True),
        ("vllm", {V + "kv_cache_dtype": "fp8"}, {V + "kv_cache_dtype": "fp8_e4m3"}, True),
        ("vllm", {V + "kv_cache_dtype": "auto"}, {V + "kv_cache_dtype": "fp8"}, False),
        ("vllm", {}, {V + "gpu_memory_utilization": 0.9}, True),  # the default, by its name
        ("vllm", {}, {V + "gpu_memory_utilization": 0.95}, False),
        ("vllm", {}, {V + "enable_prefix_caching": False}, True),  # no prompt repeats a prefix
        ("sglang", {}, {S + "disable_radix_cache": True}, True),
        ("trtllm", {}, {T + "enable_chunked_prefill": True}, False),
    ],
)
def test_emulated_engines(engine: str, one: Point, other: Point, equal: bool) -> None:
    assert same(TWIN, engine, one, other) is equal


@pytest.mark.parametrize(
    ("engine", "one", "other", "equal"),
    [
        ("vllm", {}, {V + "kv_cache_dtype": "auto"}, True),
        ("vllm", {}, {V + "async_scheduling": False}, False),  # a real engine obeys it
        ("vllm", {}, {V + "enable_prefix_caching": False}, False),
        ("sglang", {}, {S + "disable_radix_cache": False}, True),  # no flag at all
        ("trtllm", {}, {T + "max_num_tokens": 8192}, True),
        ("trtllm", {}, {T + "max_num_tokens": 4096}, False),
        ("vllm", {}, {"topology.tensor_parallel": 4}, False),
    ],
)
def test_real_engines(engine: str, one: Point, other: Point, equal: bool) -> None:
    assert same(REAL, engine, one, other) is equal


def test_a_prefix_cache_counts_where_prompts_repeat() -> None:
    shared = load(["experiment=b300", "workload=shared_prefix"])
    assert not same(shared, "vllm", {}, {V + "enable_prefix_caching": False})


def test_knobs_without_effect_and_values_of_unset_ones_are_known() -> None:
    settings = EngineSettings(TWIN)
    assert settings.inert == {
        V + "async_scheduling",
        V + "enable_prefix_caching",
        S + "disable_radix_cache",
        S + "max_prefill_tokens",  # the chunk, by default as large, is the smaller limit
    }
    assert settings.unset[V + "max_num_batched_tokens"] == 8192
    assert settings.unset[V + "kv_cache_dtype"] == "auto"
    assert settings.unset[T + "max_batch_size"] == 2048  # no value of the space
    assert settings.relevant({"engine": "vllm", V + "async_scheduling": True}) == {"engine": "vllm"}
    real = EngineSettings(REAL)
    assert not real.inert
    assert V + "enable_prefix_caching" not in real.unset  # versions differ


def test_an_impossible_configuration_is_like_no_other() -> None:
    settings = EngineSettings(TWIN)
    wide = {"engine": "vllm", "topology.tensor_parallel": 16}
    assert settings.same(wide, dict(wide))
    assert not settings.same(wide, {"engine": "vllm"})


def test_knobs_of_engines_that_the_study_has_not_are_left_out() -> None:
    """A space is often shared: these are the three frameworks', and the study has one."""
    study = load(["experiment=b300", "~engine.sglang", "~engine.trtllm"])
    assert any(path.startswith("engine.sglang.") for path in study.space.parameters)
    settings = EngineSettings(study)
    assert not any("sglang" in path for path in {*settings.unset, *settings.inert})
