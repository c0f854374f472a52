"""Which settings count as changing numerics."""

from typing import Any

import pytest

from serving.engines import ENGINES, LlamaCpp, Vllm
from serving.engines.flags.compilation import VllmCompilation
from serving.engines.flags.kv_transfer import VllmKvTransfer
from serving.engines.flags.speculation import VllmSpeculation
from tests.tuner.samples.study import sample_config
from tuner.config.checks.numerics import changes_numerics, numeric, numerics_vary
from tuner.config.groups.quality import QualityConfig
from tuner.config.groups.space import Categorical, Int, Space
from tuner.config.load import load
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig


@pytest.mark.parametrize("name", ENGINES)
def test_knobs_without_effect_on_answers_are_knobs(name: str) -> None:
    adapter = ENGINES[name]
    assert adapter.same_numerics <= set(adapter.model_fields)


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({"kv_cache_dtype": "fp8"}, True),
        ({"kv_cache_dtype": "auto"}, False),  # the default by another spelling
        ({"quantization": "fp8"}, True),
        ({"attention_backend": "FLASHINFER"}, True),
        ({"flags": {"moe_backend": "triton"}}, True),
        ({"env": {"VLLM_USE_X": "1"}}, True),
        ({"version": "0.32.0"}, True),
        ({"max_num_seqs": 7, "gpu_memory_utilization": 0.5, "block_size": 32}, False),
        ({"start_timeout_s": 7.0}, False),
        ({"speculation": VllmSpeculation(method="ngram", depth=3)}, True),
        ({"speculation": VllmSpeculation()}, False),
        ({"compilation": VllmCompilation(cudagraph_mode="FULL", cudagraph_max_size=8)}, False),
        ({"compilation": VllmCompilation(level=2)}, False),
        ({"compilation": VllmCompilation(level=0)}, True),
        ({"compilation": VllmCompilation(fuse_attn_quant=True)}, True),
        ({"kv_transfer": VllmKvTransfer(role="both", connector="OffloadingConnector")}, False),
    ],
)
def test_of_vllm(changed: dict[str, object], counts: bool) -> None:
    assert changes_numerics(Vllm(), Vllm().model_copy(update=changed)) == counts


def test_the_depth_of_speculation_does_not_count_and_another_engine_does() -> None:
    one, other = (VllmSpeculation(method="ngram", depth=depth) for depth in (2, 5))
    assert not changes_numerics(Vllm(speculation=one), Vllm(speculation=other))
    assert changes_numerics(Vllm(), LlamaCpp())


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("model.source", True),
        ("topology.tensor_parallel", False),
        ("power.limit_w", False),
        ("engine", False),
        ("engine.llamacpp.cache_type_k", True),
        ("engine.llamacpp.flags.rope_scaling", True),
        ("engine.llamacpp.parallel", False),
        ("engine.vllm.speculation.method", True),
        ("engine.vllm.compilation.level", True),
        ("engine.vllm.compilation.cudagraph_mode", False),
        ("engine.vllm.kv_transfer.connector", False),
        ("engine.vllm.speculation.depth", False),
        ("engine.other.anything", False),
    ],
)
def test_parameters_of_a_space(path: str, counts: bool) -> None:
    config = sample_config()
    assert numeric(path, config.space, config.engine) == counts


def one_engine(space: Space, **quality: Any) -> StudyConfig:
    config = sample_config()
    one = {"llamacpp": config.engine["llamacpp"]}
    return config.model_copy(
        update={"engine": one, "space": space, "quality": QualityConfig(**quality)}
    )


CACHE = Space(
    parameters={
        "engine.llamacpp.cache_type_k": Categorical(type="categorical", choices=("f16", "q8_0")),
        "engine.llamacpp.parallel": Int(type="int", low=1, high=4),
    }
)
SLOTS = Space(parameters={"engine.llamacpp.parallel": Int(type="int", low=1, high=4)})


def test_who_answers() -> None:
    """The default wherever another trial may answer otherwise, and each that may."""
    study = one_engine(CACHE)
    assert numerics_vary(study)
    answers = [
        trial_config(study, point).quality is not None
        for point in (
            {},
            {"engine.llamacpp.parallel": 4},
            {"engine.llamacpp.cache_type_k": "q8_0"},
            {"engine.llamacpp.cache_type_k": "q8_0", "engine.llamacpp.parallel": 4},
        )
    ]
    assert answers == [True, False, True, True]
    quiet = one_engine(SLOTS)
    assert trial_config(quiet, {}).quality is None
    asked_all = one_engine(SLOTS, check="all", prompts=9)
    found = trial_config(asked_all, {"engine.llamacpp.parallel": 4}).quality
    assert found is not None
    assert (found.prompts, type(found).__name__) == (9, "QualityPrompts")
    off = one_engine(CACHE, check="none")
    assert trial_config(off, {"engine.llamacpp.cache_type_k": "q8_0"}).quality is None


def test_what_is_answered_is_in_no_fingerprint() -> None:
    with_it, without = one_engine(CACHE), one_engine(CACHE, check="none")
    point = {"engine.llamacpp.cache_type_k": "q8_0"}
    one, other = trial_config(with_it, point), trial_config(without, point)
    assert one.quality != other.quality
    assert one.fingerprint == other.fingerprint


def test_emulated_engines_answer_nothing() -> None:
    study = load(["experiment=b300"])
    assert numerics_vary(study)
    point = {"engine": "vllm", "engine.vllm.kv_cache_dtype": "fp8"}
    assert trial_config(study, point).quality is None
