"""Answers to the fixed prompts, as they are kept in a trial's folder. Strict models of outside data."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from tuner.trial.quality.stored import stored

FILE = "answers.json"
MOST_BYTES = 64 << 20  # of the file: 72 prompts of 512 tokens need 5 MB
Token = Annotated[str, Field(max_length=1000)]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answer(_Kept):
    """One greedy answer: a token a position.

    `logprobs`: of the tokens, in nats; `margins`: how far each is above the second best. Both are empty if
    the server says nothing of them; a margin is None where it names no second one. `ended`: the model ended
    the answer before the limit.
    """

    tokens: list[Token]
    logprobs: list[FiniteFloat] = Field(default_factory=list)
    margins: list[FiniteFloat | None] = Field(default_factory=list)
    ended: bool

    @model_validator(mode="after")
    def _same_lengths(self) -> "Answer":
        for name in ("logprobs", "margins"):
            found = len(getattr(self, name))
            if found not in (0, len(self.tokens)):
                raise ValueError(f"{found} {name} for {len(self.tokens)} tokens")
        return self


class Answers(_Kept):
    """All answers of a trial: first to all prompts, then to all of them again. `prompts`: their hash."""

    prompts: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    first: list[Answer]
    again: list[Answer]

    @model_validator(mode="after")
    def _whole(self) -> "Answers":
        if len(self.first) != len(self.again):
            raise ValueError(f"{len(self.first)} first answers, {len(self.again)} second ones")
        return self


def prompts_hash(prompts: Sequence[str], tokens: int) -> str:
    """What answers must have in common to be compared: the prompts, and the limit of an answer."""
    text = "\0".join([*prompts, str(tokens)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_bytes(answers: Answers) -> bytes:
    """The contents of the file."""
    return answers.model_dump_json().encode()


def read_answers(folder: Path) -> Answers | str:
    """The answers in a trial's folder, or why there are none."""
    return stored(folder / FILE, Answers, MOST_BYTES)
