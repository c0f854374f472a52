"""Several sources in one load, each as often as its weight says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadgen.prompts.base import Ask, Source

_TABLE = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """`parts[i]` is the source of number i; it is that source's `ranks[i]`-th. Both repeat."""

    sources: tuple[Source, ...]
    parts: NDArray[np.int64]
    ranks: NDArray[np.int64]
    counts: tuple[int, ...]
    multi_turn: bool
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None

    def first(self, number: int) -> Ask:
        source, own = self._at(number)
        ask = source.first(own)
        return ask if ask.session < 0 else replace(ask, session=number)

    def next(self, ask: Ask, answer: str) -> Ask | None:
        if ask.session < 0:
            return None
        source, own = self._at(ask.session)
        following = source.next(replace(ask, session=own), answer)
        return None if following is None else replace(following, session=ask.session)

    def _at(self, number: int) -> tuple[Source, int]:
        turn, place = divmod(number, len(self.parts))
        part = int(self.parts[place])
        source = self.sources[part]
        own = turn * self.counts[part] + int(self.ranks[place])
        return source, own if source.size is None else own % source.size


def mixture(sources: Sequence[Source], weights: Sequence[float], seed: int) -> Mixture:
    """In a shuffled order, in shares as near to the weights as whole numbers allow."""
    shares = np.array(weights) / sum(weights)
    edges = np.rint(np.cumsum(shares) * _TABLE).astype(np.int64)
    parts = np.searchsorted(edges, np.arange(_TABLE), side="right")
    parts = np.random.default_rng((seed, 7)).permutation(parts)
    ranks = np.empty(_TABLE, np.int64)
    for part in range(len(sources)):
        mine = parts == part
        ranks[mine] = np.arange(np.count_nonzero(mine))
    return Mixture(
        tuple(sources),
        parts,
        ranks,
        tuple(np.bincount(parts, minlength=len(sources)).tolist()),
        any(source.multi_turn for source in sources),
        max(source.longest_tokens for source in sources),
    )
