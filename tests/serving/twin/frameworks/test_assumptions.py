"""What is said beside modelled figures."""

import re
from pathlib import Path

import pytest

from serving.twin import api
from serving.twin.config import TwinConfig
from serving.twin.frameworks.assumptions import ACCURACY

B300 = TwinConfig(system="b300_sxm", acceptance=0.6)
H200 = TwinConfig(system="h200_sxm")
VLLM = ("vllm", "serve")
SGLANG = ("sglang", "serve", "--model-path")
DOCS = Path(__file__).parents[4] / "docs" / "twin.md"


def test_draft_acceptance_is_named_where_drafts_are_used() -> None:
    plain = api.read_command([*SGLANG, "nvidia/DeepSeek-R1-FP4"], B300).setup
    assert api.assumptions(plain, B300) == []
    drafts = ("--speculative-algorithm", "EAGLE", "--speculative-num-steps", "3")
    (line,) = api.assumptions(
        api.read_command([*SGLANG, "nvidia/DeepSeek-R1-FP4", *drafts], B300).setup, B300
    )
    assert "each of 3 draft tokens is accepted with probability 0.6" in line


@pytest.mark.parametrize(
    ("argv", "config", "faults"),
    [
        ((*VLLM, "deepseek-ai/DeepSeek-R1"), B300, ["block-scaled FP8", "MLA"]),
        ((*VLLM, "nvidia/DeepSeek-R1-FP4"), B300, ["MLA"]),
        ((*VLLM, "nvidia/DeepSeek-R1-FP4"), H200, []),
        ((*VLLM, "Qwen/Qwen3-32B-FP8"), B300, ["block-scaled FP8"]),
        ((*VLLM, "nvidia/Llama-3.3-70B-Instruct-FP4"), B300, []),
        ((*SGLANG, "deepseek-ai/DeepSeek-R1"), B300, []),
    ],
)
def test_step_times_that_are_known_to_be_wrong_are_named(
    argv: tuple[str, ...], config: TwinConfig, faults: list[str]
) -> None:
    found = api.known_wrong(api.read_command(argv, config).setup, config)
    assert len(found) == len(faults)
    assert all(fault in line for fault, line in zip(faults, found, strict=True))


@pytest.mark.parametrize("system", ACCURACY)
def test_the_accuracy_is_that_of_the_documentation(system: str) -> None:
    name, text = system.split("_", maxsplit=1)[0].upper(), DOCS.read_text()
    errors = re.search(rf"\*\*{name}, all\*\* \|.*", text)
    pairs = re.search(rf"\| {name}, equal GPUs \| \d+ \| ([\d.]+)%", text)
    assert errors is not None
    assert pairs is not None
    medians = [float(cell.split("%")[0]) for cell in errors[0].split("|")[2:5]]
    shown = ACCURACY[system]
    assert shown == pytest.approx((*medians, float(pairs[1])), abs=1.0)
    assert f"TPOT {shown[0]} %" in api.accuracy(system)
