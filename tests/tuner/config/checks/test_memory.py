"""Layouts that a model can't fit are refused before a GPU is taken, and no others."""

import json
from pathlib import Path

import pytest

from tests.serving.gpu.memory.samples import DEEPSEEK_R1, LLAMA_70B
from tuner.config.errors import ConfigError
from tuner.config.load import load
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig

R1 = ["experiment=b300_vllm", "model=deepseek_r1", "space=none", "search=random"]


def study(*words: str, source: str | None = None) -> StudyConfig:
    more = [] if source is None else [f"model.source={source}"]
    return load([*R1, *words, *more])


def refused(*words: str, source: str | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        study(*words, source=source)
    return str(raised.value)


def test_deepseek_r1_in_fp8_fits_four_b300_and_not_two() -> None:
    said = refused("topology.tensor_parallel=2")
    assert said.startswith("topology: deepseek-ai/DeepSeek-R1 needs at least 313 GiB a GPU")
    assert "on 2 GPUs; a GPU of HGX B300 has 268.6 GiB" in said
    trial_config(study("topology.tensor_parallel=4"), {})
    trial_config(study("topology.tensor_parallel=1", "topology.data_parallel=8"), {})


def test_a_configuration_on_disk_counts_more_than_the_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_70B))
    one = ("hardware=h100", "topology.tensor_parallel=1")
    assert "needs at least 132 GiB a GPU (weights 131.4," in refused(*one, source=str(folder))
    trial_config(study(*one, "engine.vllm.quantization=fp8", source=str(folder)), {})
    trial_config(study("topology.tensor_parallel=1", source=str(folder)), {})


def test_the_engines_share_of_memory_counts(tmp_path: Path) -> None:
    folder = tmp_path / "r1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DEEPSEEK_R1))
    words = ("topology.tensor_parallel=4",)
    trial_config(study(*words, source=str(folder)), {})
    said = refused(*words, "engine.vllm.gpu_memory_utilization=0.5", source=str(folder))
    assert "of which the engine may use 50% at most (gpu_memory_utilization)" in said


@pytest.mark.parametrize(
    "words",
    [
        ("hardware.gib_per_device=null",),
        ("hardware=b300_twin",),
    ],
)
def test_without_a_size_or_on_the_twin_nothing_is_refused(words: tuple[str, ...]) -> None:
    trial_config(study("topology.tensor_parallel=2", *words), {})


def test_a_model_that_nobody_knows_is_not_refused(tmp_path: Path) -> None:
    trial_config(study("topology.tensor_parallel=1", source="an/unknown-900B"), {})
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_70B, "model_type": "new"}))
    trial_config(study("topology.tensor_parallel=1", source=str(tmp_path)), {})


def test_the_size_of_the_memory_changes_no_fingerprint() -> None:
    words = ("topology.tensor_parallel=8",)
    with_size, without = study(*words), study(*words, "hardware.gib_per_device=null")
    assert trial_config(with_size, {}).fingerprint == trial_config(without, {}).fingerprint
