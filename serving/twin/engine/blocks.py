"""The KV cache of one rank, counted in blocks, with a prefix cache of hashed ones."""

from collections import OrderedDict
from collections.abc import Sequence


class Blocks:
    """Blocks that no request holds stay known until others need their place, the oldest first."""

    def __init__(self, total: int, block_tokens: int, *, prefix_caching: bool) -> None:
        self.total, self.block_tokens, self.prefix_caching = total, block_tokens, prefix_caching
        self._private = 0
        self._held: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be taken, idle ones of the prefix cache among them."""
        return self.total - self._private - len(self._held)

    @property
    def used(self) -> int:
        return self._private + len(self._held)

    @property
    def cached(self) -> int:
        """Idle blocks whose content is still known."""
        return len(self._idle)

    def needed(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def hits(self, hashes: Sequence[int]) -> int:
        """How many of a prompt's leading blocks are known."""
        if not self.prefix_caching:
            return 0
        count = 0
        for each in hashes:
            if each not in self._held and each not in self._idle:
                break
            count += 1
        return count

    def fits(self, hashes: Sequence[int], blocks: int) -> bool:
        """Whether a request of so many blocks can be let in; blocks that others hold cost nothing."""
        shared = sum(each in self._held for each in hashes[: self.hits(hashes)])
        return blocks - shared <= self.free

    def hold(self, hashes: Sequence[int], blocks: int) -> None:
        """Takes a request's blocks: the hashed ones by name, the rest as its own."""
        named = hashes if self.prefix_caching else ()
        for each in named:
            if each in self._held:
                self._held[each] += 1
            else:
                self._idle.pop(each, None)
                self._held[each] = 1
        self._private += blocks - len(named)
        self._evict()

    def grow(self, blocks: int) -> None:
        self._private += blocks
        self._evict()

    def release(self, hashes: Sequence[int], blocks: int) -> None:
        """Gives back what `hold` and `grow` took: `blocks` in all, the hashed ones stay known."""
        named = hashes if self.prefix_caching else ()
        for each in reversed(named):  # the end of a prompt is forgotten before its beginning
            self._held[each] -= 1
            if not self._held[each]:
                del self._held[each]
                self._idle[each] = None
        self._private -= blocks - len(named)

    def _evict(self) -> None:
        while self._idle and self.used + len(self._idle) > self.total:
            self._idle.popitem(last=False)
