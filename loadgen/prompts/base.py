"""The interface of request sources: each request is made from its number alone."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """One request, apart from how it is sent.

    `prompt` is JSON: a list of token ids, a string, or a list of chat messages. `input_tokens` is
    None where the exact length is not known in advance.
    """

    prompt: bytes
    output_tokens: int
    input_tokens: int | None = None
    session: int = -1  # number of the conversation; -1: none
    turn: int = 0
    think_s: float = 0.0  # pause after the previous answer


class Source(Protocol):
    """Makes requests. The same number gives the same request in any process and order.

    So shards need no coordination.
    """

    @property
    def size(self) -> int | None:
        """Number of sessions; None: unlimited."""

    @property
    def due_s(self) -> NDArray[np.float64] | None:
        """Timestamps of a trace, rising from 0; None of anything else."""

    @property
    def multi_turn(self) -> bool:
        """Whether a session can have a next turn; if not, `next` is never called."""

    @property
    def longest_tokens(self) -> int:
        """Upper bound of input and output tokens of one request together."""

    def first(self, number: int) -> Request:
        """The first turn of session `number`."""

    def next(self, request: Request, answer: str) -> Request | None:
        """The turn after `request` was answered with `answer`; None at the end of the session."""
