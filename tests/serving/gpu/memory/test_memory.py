"""Weights and KV cache of published models, by their config.json: against model cards and published sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gpu.memory.architecture import Architecture, architecture
from serving.gpu.memory.config_file import config_file
from serving.gpu.memory.estimate import GIB, MARGIN, Need, Split, can_hold, needed
from serving.gpu.memory.precision import WeightBytes, kv_bytes, weight_bytes
from tests.serving.gpu.memory.samples import DEEPSEEK_R1, GPT_OSS_120B, LLAMA_70B, PUBLISHED


def shape(config: dict[str, Any]) -> Architecture:
    found = architecture(config)
    assert found is not None
    return found


@pytest.mark.parametrize(("config", "billions"), PUBLISHED, ids=lambda v: str(v)[:24])
def test_parameters_are_those_of_the_model_card(config: dict[str, Any], billions: float) -> None:
    assert shape(config).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_checkpoints_have_their_published_size() -> None:
    """GB of the weight files: Llama 141.1, gpt-oss 65.2; DeepSeek-R1 without its MTP layer 673."""
    for config, gigabytes in ((DEEPSEEK_R1, 673), (LLAMA_70B, 141.1), (GPT_OSS_120B, 65.2)):
        sizes = weight_bytes(config)
        assert sizes is not None
        need = needed(
            shape(config), sizes, Split(1, 1, 1), kv_value_bytes=2, request_tokens=0, step_tokens=0
        )
        assert need.weights / 1e9 == pytest.approx(gigabytes, rel=0.01)
        assert need.bytes == need.weights


def test_a_token_of_the_cache_has_its_published_size() -> None:
    """Llama 70B: 320 KiB a token in bf16; DeepSeek-V3: 70.3 KB (its report, section 2.1.1), on every GPU."""
    for config, split, size in (
        (LLAMA_70B, 1, 327_680),
        (LLAMA_70B, 8, 40_960),
        (LLAMA_70B, 16, 40_960),
        (DEEPSEEK_R1, 8, 70_272),
    ):
        need = needed(
            shape(config),
            WeightBytes(1, 1, 1),
            Split(split, split, split),
            kv_value_bytes=2,
            request_tokens=1000,
        )
        assert need.kv_cache == size * 1000
    oss = needed(
        shape(GPT_OSS_120B),
        WeightBytes(1, 1, 1),
        Split(1, 1, 1),
        kv_value_bytes=2,
        request_tokens=1000,
    )
    assert oss.kv_cache == 1024 * 2 * 18 * (1000 + 128)


def test_precisions_of_checkpoints_and_of_engines() -> None:
    half = {"torch_dtype": "bfloat16"}
    assert weight_bytes(half) == WeightBytes(2, 2, 2)
    assert weight_bytes(half, dtype="float32") == WeightBytes(4, 4, 4)
    assert weight_bytes(half, quantization="fp8") == WeightBytes(1, 1, 2)
    assert weight_bytes(half, quantization="of the future") is None
    modelopt = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    assert weight_bytes({"quantization_config": modelopt}) == WeightBytes(0.5625, 0.5625, 2)
    assert weight_bytes({"quantization_config": {"quant_method": "awq", "bits": 4}}) == WeightBytes(
        0.5, 0.5, 2
    )
    assert weight_bytes({"quantization_config": {"quant_method": "of the future"}}) is None
    assert [kv_bytes(name, 2.0) for name in (None, "auto", "fp8_e4m3", "float16", "nvfp4")] == [
        2.0, 2.0, 1.0, 2.0, 0.5625
    ]  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        {},
        {**LLAMA_70B, "model_type": "mamba"},
        {**LLAMA_70B, "hidden_size": 0},
        {**LLAMA_70B, "num_hidden_layers": "many"},
    ],
)
def test_what_is_not_known_has_no_estimate(config: dict[str, Any]) -> None:
    assert architecture(config) is None


def test_the_text_part_of_a_multimodal_model_counts() -> None:
    assert architecture({"model_type": "gemma4", "text_config": LLAMA_70B}) == shape(LLAMA_70B)


def test_a_configuration_is_found_in_a_folder_and_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert config_file("meta-llama/Llama-3.3-70B-Instruct") is None
    cached = tmp_path / "home/hub/models--meta-llama--Llama-3.3-70B-Instruct"
    for commit, layers in (("aaa", 80), ("bbb", 81)):
        (cached / "snapshots" / commit).mkdir(parents=True)
        text = json.dumps({**LLAMA_70B, "num_hidden_layers": layers})
        (cached / "snapshots" / commit / "config.json").write_text(text)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("aaa\n")
    found = config_file("meta-llama/Llama-3.3-70B-Instruct")
    assert found == LLAMA_70B
    at_commit = config_file("meta-llama/Llama-3.3-70B-Instruct", "bbb")
    assert at_commit is not None
    assert at_commit["num_hidden_layers"] == 81
    folder = cached / "snapshots/bbb"
    assert config_file(str(folder)) == at_commit
    for wrong in ("[1]", "{", "[" * 100_000):
        (folder / "config.json").write_text(wrong)
        assert config_file(str(folder)) is None


sizes = st.floats(0, 1e13)


@given(weights=sizes, cache=sizes, step=sizes, memory=st.floats(1, 1e13), share=st.floats(0.1, 1))
def test_what_is_refused_does_not_fit_with_an_error_of_the_margin(
    weights: float, cache: float, step: float, memory: float, share: float
) -> None:
    need = Need(weights, cache, step)
    holds = can_hold(need, memory, share)
    assert holds == (need.bytes <= memory * share / (1 - MARGIN))
    assert holds or need.bytes > memory * share


def test_a_need_names_its_parts() -> None:
    need = Need(335.5 * GIB, 0.02 * GIB, 0.5 * GIB)
    assert str(need) == (
        "336 GiB a GPU (weights 335.5, KV cache of one request 0.0, activations 0.5)"
    )
