"""What requests say: a source of asks, each made from its number alone."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, apart from how it is sent.

    `prompt` is JSON: a list of token ids, a string, or a list of chat messages. `input_tokens` is
    None where the length can only be aimed at.
    """

    prompt: bytes
    output_tokens: int
    input_tokens: int | None = None
    session: int = -1  # the conversation, where there is one
    turn: int = 0
    think_s: float = 0.0  # from the answer before to when this one is due


class Source(Protocol):
    """The same number gives the same ask, in whatever process and order: shards need no word.

    `size` is the number of sessions it holds, None for endless. `due_s` are the timestamps of a
    trace (rising, the first is 0), None of anything else. A source that is not `multi_turn` never
    has a next turn, and is not asked.
    """

    @property
    def size(self) -> int | None: ...
    @property
    def due_s(self) -> NDArray[np.float64] | None: ...
    @property
    def multi_turn(self) -> bool: ...
    @property
    def longest_tokens(self) -> int:
        """Input and output together, an upper bound."""

    def first(self, number: int) -> Ask: ...

    def next(self, ask: Ask, answer: str) -> Ask | None:
        """What the same user says to this answer; None when the session is over."""
