"""What a plan prints."""

import io
import shlex

import pytest
from rich.console import Console

from serving.engines import External
from tests.tuner.samples.loaded import load
from tests.tuner.samples.study import sample_config
from tuner.config.resolve import single
from tuner.config.study import StudyConfig
from tuner.report.plan import folded, show_plan


def printed(config: StudyConfig, width: int = 80) -> str:
    said = io.StringIO()
    show_plan(config, Console(file=said, width=width))
    return said.getvalue()


def test_an_external_server_has_no_command() -> None:
    elsewhere = {"external": External(url="http://127.0.0.1:1")}
    config = single(sample_config().model_copy(update={"engine": elsewhere}))
    assert "http://127.0.0.1:1 is already running" in printed(config)


def test_one_configuration_has_a_narrow_range() -> None:
    config = load(["experiment=b300_vllm", "space=none", "output_dir=none"])
    said = printed(config)
    assert "1 trial, 1 at a time" in said
    assert "search.trials is 32; the space has no more configurations" in said
    assert "time: about 45 min (" in said
    assert "request times from the twin of b300_sxm" in said
    assert "141 GB" in said


@pytest.mark.thorough
def test_the_first_design_is_listed_and_readable_at_80_columns() -> None:
    said = printed(load(["experiment=b300_vllm", "output_dir=none"]))
    assert max(len(line.rstrip()) for line in said.splitlines() if "InferenceX" not in line) <= 80
    assert [f"# trial {number}\n" in said for number in range(7)] == [True] * 6 + [False]
    assert said.index("# trial 0\n") < said.index("# The next ones") < said.index("# trial 1\n")
    assert "# and 26 more" in said


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve org/model --port $PORT --max-model-len 16384 --async-scheduling " * 3,
        "CUDA_VISIBLE_DEVICES='' NAME='a b' program --text 'it is' -x 1 positional 'two words'",
        "program " + "--flag " * 40,
    ],
)
def test_a_folded_command_is_the_same_to_a_shell(command: str) -> None:
    lines = folded(command)
    assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)
    assert all(len(line) <= 79 for line in lines.splitlines())
    assert ("'$PORT'" in lines) is False
