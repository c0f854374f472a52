"""The KV cache of one rank, counted in blocks, with a prefix cache of hashed blocks."""

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """Blocks of finished requests stay in the prefix cache until their room is needed, oldest out first."""

    def __init__(self, total: int, block_tokens: int, *, prefix_caching: bool) -> None:
        self.total, self.block_tokens, self.prefix_caching = total, block_tokens, prefix_caching
        self._private = 0
        self._references: dict[int, int] = {}  # hash → requests that hold the block
        self._evictable: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be allocated, evictable ones of the prefix cache included."""
        return self.total - self._private - len(self._references)

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self._private + len(self._references)

    @property
    def cached(self) -> int:
        """Evictable blocks of the prefix cache."""
        return len(self._evictable)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that so many tokens fill, the last one in part."""
        return -(-tokens // self.block_tokens)

    def cached_prefix(self, hashes: Sequence[int]) -> int:
        """How many of a prompt's leading blocks are in the prefix cache."""
        if not self.prefix_caching:
            return 0
        count = 0
        for each in hashes:
            if each not in self._references and each not in self._evictable:
                break
            count += 1
        return count

    def can_allocate(self, hashes: Sequence[int], blocks: int) -> bool:
        """Whether a request of `blocks` fits; blocks that running requests share with it cost nothing."""
        shared = sum(each in self._references for each in hashes[: self.cached_prefix(hashes)])
        return blocks - shared <= self.free

    def allocate(self, hashes: Sequence[int], blocks: int) -> None:
        """Takes a request's blocks: the hashed ones shared, the rest private."""
        named = hashes if self.prefix_caching else ()
        for each in named:
            if each in self._references:
                self._references[each] += 1
            else:
                self._evictable.pop(each, None)
                self._references[each] = 1
        self._private += blocks - len(named)
        self._evict()

    def grow(self, blocks: int) -> None:
        """Takes private blocks for generated tokens."""
        self._private += blocks
        self._evict()

    def release(self, hashes: Sequence[int], blocks: int) -> None:
        """Frees what `allocate` and `grow` took: `blocks` in all; the hashed ones stay in the cache."""
        named = hashes if self.prefix_caching else ()
        for each in reversed(named):  # the end of a prompt is evicted before its beginning
            self._references[each] -= 1
            if not self._references[each]:
                del self._references[each]
                self._evictable[each] = None
        self._private -= blocks - len(named)

    def _evict(self) -> None:
        while self._evictable and self.used + self.cached > self.total:
            self._evictable.popitem(last=False)
