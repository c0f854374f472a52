"""A long array of random tokens, encoded once: a prompt of any length is a slice of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOKENS = 1 << 18
_STEP = 2654435761  # Knuth's multiplicative hash: consecutive numbers get slices that are far apart
_PREFIX_TOKENS = 4


@dataclass(frozen=True, slots=True)
class TokenPool:
    """`encoded[starts[i]:starts[i + 1]]` is token i, followed by the separator."""

    pieces: tuple[bytes, ...]
    separator: bytes
    encoded: bytes
    starts: NDArray[np.int64]
    first_max: int  # slices start below this token

    def _prefix(self, number: int) -> list[bytes]:
        """Tokens that are unique to this number."""
        tokens, rest = [], number
        for _ in range(_PREFIX_TOKENS):
            rest, index = divmod(rest, len(self.pieces))
            tokens.append(self.pieces[index])
        return tokens

    def slice(self, key: int, length: int) -> bytes:
        """`length` consecutive tokens, the same for the same key; empty for length 0."""
        if length <= 0:
            return b""
        first = key * _STEP % self.first_max
        end = int(self.starts[first + length]) - len(self.separator)
        return self.encoded[int(self.starts[first]) : end]

    def distinct(self, number: int, length: int) -> bytes:
        """`length` tokens whose first ones are unique to this number."""
        prefix = self._prefix(number)[:length]
        rest = self.slice(number, length - len(prefix))
        return self.separator.join([*prefix, rest] if rest else prefix)


def token_pool(
    pieces: Sequence[bytes], separator: bytes, longest: int, random: np.random.Generator
) -> TokenPool:
    """`pieces`: one token each. `longest`: most tokens of a slice."""
    shuffled = tuple(pieces[i] for i in random.permutation(len(pieces)))
    picks = random.integers(0, len(shuffled), _TOKENS + longest)
    lengths = np.array([len(piece) + len(separator) for piece in shuffled], np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[picks])))
    encoded = separator.join([shuffled[i] for i in picks.tolist()]) + separator
    return TokenPool(shuffled, separator, encoded, starts, _TOKENS)
