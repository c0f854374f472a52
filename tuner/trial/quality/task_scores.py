"""What a trial got right in lm-eval's tasks, as it is kept in its folder. Strict models of outside data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tuner.trial.quality.stored import stored

FILE = "tasks.json"
MOST_BYTES = 64 << 20  # a million documents need 22 MB
Document = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _KeptScores(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TaskScore(_KeptScores):
    """One task. `metric`: as lm-eval names it, with its filter. `documents`: their hashes, in order."""

    metric: str
    documents: list[Document]
    right: list[bool]

    @model_validator(mode="after")
    def _whole(self) -> "TaskScore":
        if len(self.documents) != len(self.right):
            raise ValueError(f"{len(self.right)} scores of {len(self.documents)} documents")
        return self

    @property
    def share(self) -> float:
        """The share of right answers; 0 without documents."""
        return sum(self.right) / len(self.right) if self.right else 0.0


class TaskScores(_KeptScores):
    """All tasks of a trial, by name. `lm_eval`: the version that ran them; empty: unknown."""

    tasks: Mapping[str, TaskScore]
    lm_eval: str = ""


def to_bytes(scores: TaskScores) -> bytes:
    """The contents of the file."""
    return scores.model_dump_json().encode()


def read_scores(folder: Path) -> TaskScores | str:
    """The scores in a trial's folder, or why there are none."""
    return stored(folder / FILE, TaskScores, MOST_BYTES)
