"""Commands of a report: the engine's own, with a port, quoted and broken as a person would."""

import shlex

import pytest

from tuner.report.command_line import command_lines, quoted


def words(shown: str) -> list[str]:
    """As a shell reads it."""
    return shlex.split(shown.replace("\\\n", " "))


VLLM = "vllm serve nvidia/Llama-3.3-70B-Instruct-FP4 --host 127.0.0.1"


def test_the_emulator_is_no_part_of_the_command() -> None:
    config = """'{"noise":0.5,"seed":3}'"""
    twin = f"python -m serving.twin --system b300_sxm --config {config} --"
    shown = command_lines(f"CUDA_VISIBLE_DEVICES=0,1 {twin} {VLLM} --port $PORT")
    assert words(shown) == ["CUDA_VISIBLE_DEVICES=0,1", *shlex.split(VLLM), "--port", "8000"]


def test_a_port_that_was_free_by_chance_is_not_shown() -> None:
    shown = command_lines(f"{VLLM} --port 43121 --max-num-seqs 256")
    assert words(shown) == [*shlex.split(VLLM), "--port", "8000", "--max-num-seqs", "256"]


def test_lines_fit_a_screen_and_keep_a_flag_with_its_value() -> None:
    flags = " ".join(f"--flag-number-{i} value-{i}" for i in range(12))
    shown = command_lines(f"{VLLM} {flags}")
    lines = shown.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith("    --flag") for line in lines[2:])
    assert words(shown) == shlex.split(f"{VLLM} {flags}")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("plain/path-1.2_x:y", "plain/path-1.2_x:y"),
        ('{"mode": 3}', """'{"mode": 3}'"""),
        ("it's", '''"it's"'''),
        ("a $b", "'a $b'"),
        ("$HOST", "$HOST"),
        ("", "''"),
    ],
)
def test_quotes_are_as_few_as_it_takes(word: str, shown: str) -> None:
    assert quoted(word) == shown


def test_any_word_comes_back_from_the_shell() -> None:
    words = ["a", "b c", "it's $x", '"', "\\", "`ls`", "!", "*", "it's", "~"]
    assert shlex.split(" ".join(map(quoted, words))) == words


def test_steps_of_a_float_are_shown_as_they_were_meant() -> None:
    assert command_lines("serve --fraction 0.8500000000000001 --other 0.125").endswith(
        "--fraction 0.85 --other 0.125"
    )


def test_what_no_shell_reads_is_shown_as_it_is() -> None:
    assert command_lines("serve 'unfinished") == "serve 'unfinished"
    assert command_lines("") == ""
