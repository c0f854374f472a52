"""A long run of random tokens, encoded once: a prompt is a slice of it, whatever its length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOKENS = 1 << 18
_STEP = 2654435761  # Knuth's multiplicative hash: neighbours in number lie far apart in the pool
_LEAD = 4


@dataclass(frozen=True, slots=True)
class TokenPool:
    """`encoded[starts[i]:starts[i + 1]]` is token i with its separator behind it."""

    pieces: tuple[bytes, ...]
    separator: bytes
    encoded: bytes
    starts: NDArray[np.int64]
    span: int  # first tokens of a slice lie below it

    def lead(self, number: int) -> list[bytes]:
        """A few tokens that no other number has."""
        made, rest = [], number
        for _ in range(_LEAD):
            rest, index = divmod(rest, len(self.pieces))
            made.append(self.pieces[index])
        return made

    def run(self, key: int, length: int) -> bytes:
        """`length` tokens, the same for the same key; empty for none."""
        if length <= 0:
            return b""
        first = key * _STEP % self.span
        end = int(self.starts[first + length]) - len(self.separator)
        return self.encoded[int(self.starts[first]) : end]

    def distinct(self, number: int, length: int) -> bytes:
        """`length` tokens that begin as those of no other number."""
        lead = self.lead(number)[:length]
        rest = self.run(number, length - len(lead))
        return self.separator.join([*lead, rest] if rest else lead)


def pool_of(
    pieces: Sequence[bytes], separator: bytes, longest: int, random: np.random.Generator
) -> TokenPool:
    """Of pieces that are one token each, in a shuffled order; `longest`: the longest slice."""
    shuffled = tuple(pieces[i] for i in random.permutation(len(pieces)))
    picks = random.integers(0, len(shuffled), _TOKENS + longest)
    lengths = np.array([len(piece) + len(separator) for piece in shuffled], np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[picks])))
    encoded = separator.join([shuffled[i] for i in picks.tolist()]) + separator
    return TokenPool(shuffled, separator, encoded, starts, _TOKENS)
