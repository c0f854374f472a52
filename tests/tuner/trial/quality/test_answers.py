"""The file of a trial's answers: whole, or one line that says what is wrong."""

from pathlib import Path

import pytest

from tests.tuner.trial.quality.answering import answered, reference
from tuner.trial.quality.answers import FILE, prompts_hash, read_answers, to_bytes
from tuner.trial.quality.prompts import prompts


def test_what_is_written_is_read(tmp_path: Path) -> None:
    answers = answered(reference(4, 5))
    (tmp_path / FILE).write_bytes(to_bytes(answers))
    assert read_answers(tmp_path) == answers


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "answers.json is missing"),
        (
            b"{",
            "answers.json is damaged: Invalid JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            b'{"prompts":"0123456789abcdef","first":[{"tokens":["a"],"logprobs":[1,2],"ended":true}],"again":[]}',
            "answers.json is damaged: first.0: Value error, 2 logprobs for 1 tokens",
        ),
        (
            b'{"prompts":"0123456789abcdef","first":[],"again":[{"tokens":[],"ended":true}]}',
            "answers.json is damaged: Value error, 0 first answers, 1 second ones",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert read_answers(tmp_path) == why


def test_prompts_are_distinct_fixed_and_some_are_long() -> None:
    whole = prompts(72)
    assert len(set(whole)) == 72
    assert prompts(10) == whole[:10]
    lengths = [len(text) for text in whole]
    assert min(lengths[3::4]) > 1.5 * max(length for i, length in enumerate(lengths) if i % 4 != 3)
    # A change of them makes the answers of older studies incomparable: change it on purpose.
    assert prompts_hash(prompts(64), 32) == "9666319a41899124"
