"""Several sources in one load, each in proportion to its weight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadgen.prompts.base import Request, Source

_TABLE = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class MixtureSource:
    """Request i is number `ranks[i]` of source `parts[i]`; both arrays repeat."""

    sources: tuple[Source, ...]
    parts: NDArray[np.int64]
    ranks: NDArray[np.int64]
    counts: tuple[int, ...]
    multi_turn: bool
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None

    def first(self, number: int) -> Request:
        """The first turn of session `number`, from the source that it belongs to."""
        source, own_number = self._at(number)
        request = source.first(own_number)
        return request if request.session < 0 else replace(request, session=number)

    def next(self, request: Request, answer: str) -> Request | None:
        """The next turn from the same source."""
        if request.session < 0:
            return None
        source, own_number = self._at(request.session)
        following = source.next(replace(request, session=own_number), answer)
        return None if following is None else replace(following, session=request.session)

    def _at(self, number: int) -> tuple[Source, int]:
        turn, place = divmod(number, len(self.parts))
        part = int(self.parts[place])
        source = self.sources[part]
        own_number = turn * self.counts[part] + int(self.ranks[place])
        return source, own_number if source.size is None else own_number % source.size


def mixture_source(sources: Sequence[Source], weights: Sequence[float], seed: int) -> MixtureSource:
    """In shuffled order; shares are the weights, rounded to 1/16,384."""
    shares = np.array(weights) / sum(weights)
    edges = np.rint(np.cumsum(shares) * _TABLE).astype(np.int64)
    parts = np.searchsorted(edges, np.arange(_TABLE), side="right")
    parts = np.random.default_rng((seed, 7)).permutation(parts)
    ranks = np.empty(_TABLE, np.int64)
    for part in range(len(sources)):
        mine = parts == part
        ranks[mine] = np.arange(np.count_nonzero(mine))
    return MixtureSource(
        tuple(sources),
        parts,
        ranks,
        tuple(np.bincount(parts, minlength=len(sources)).tolist()),
        any(source.multi_turn for source in sources),
        max(source.longest_tokens for source in sources),
    )
