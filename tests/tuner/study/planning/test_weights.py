"""The size of a model: by the catalog, by its files, by its name."""

from pathlib import Path

import pytest

from serving.engines import LlamaCpp, Vllm
from serving.topology import Model
from tuner.study.planning.weights import parameters_named, weights_bytes


def model(source: str) -> Model:
    return Model(name="m", source=source, context_tokens=100, vocabulary=100)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct", 70e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("SmolLM2-135M-Instruct", 135e6),
        ("org/tiny_0.5b", 0.5e9),
        ("mistral-large", None),
        ("b300b", None),
    ],
)
def test_the_name_states_parameters(name: str, parameters: float | None) -> None:
    assert parameters_named(name) == parameters


def test_the_precision_in_the_name_counts() -> None:
    sizes = [weights_bytes(model(f"org/new-10B{end}"), Vllm()) for end in ("", "-FP8", "-NVFP4")]
    assert sizes == [20e9, 10e9, 10e9 * 9 / 16]


def test_the_catalog_before_the_name() -> None:
    assert weights_bytes(model("meta-llama/Llama-3.3-70B-Instruct"), Vllm()) == pytest.approx(
        141e9, rel=0.01
    )


def test_files_before_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "other-70B"
    folder.mkdir()
    for part in range(2):
        (folder / f"{part}.safetensors").write_bytes(b"0" * 500)
    (tmp_path / "one.gguf").write_bytes(b"0" * 300)
    assert weights_bytes(model(str(folder)), Vllm()) == 1000
    assert weights_bytes(model(str(tmp_path / "one.gguf")), LlamaCpp()) == 300


def test_nothing_tells() -> None:
    assert weights_bytes(model("org/secret"), Vllm()) is None
