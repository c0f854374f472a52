"""Whose turn is next and what they say: numbers of requests and their due times, without a network."""

import heapq

from loadgen.prompts.base import Ask, Source
from loadgen.worker.messages import Plan


class Agenda:
    """One shard's part of a plan.

    Request numbers do not depend on how many shards there are: start i has the number i; in a
    closed loop the user who began with it goes on with i + users, i + 2 users and so on.
    """

    def __init__(self, plan: Plan, share: tuple[int, int], source: Source) -> None:
        self._plan = plan
        self._shard, self._shards = share
        self._source = source
        self._starts_ns: list[int] = plan.starts_ns[self._shard :: self._shards].tolist()
        self._next = 0
        self._rounds = [0] * (len(self._starts_ns) if plan.closed else 0)
        self._later: list[tuple[int, int, Ask]] = []
        self.repeated = 0  # sessions begun that had been begun before: the data set is too small

    def begin(self, at_ns: int) -> None:
        self._starts_ns = [at_ns + offset for offset in self._starts_ns]

    @property
    def due_ns(self) -> int:
        """When the next one falls due; 0 if none does by itself."""
        starts_ns, later = self._starts_ns, self._later
        due_ns = starts_ns[self._next] if self._next < len(starts_ns) else 0
        if later and (not due_ns or later[0][0] < due_ns):
            return later[0][0]
        return due_ns

    def pop(self, now_ns: int) -> tuple[int, int, Ask] | None:
        """Due time, slot and words of one that is due."""
        starts_ns = self._starts_ns
        while self._next < len(starts_ns) and starts_ns[self._next] <= now_ns:
            slot = self._shard + self._shards * self._next
            due_ns = starts_ns[self._next]
            self._next += 1
            if not self._past_end(slot):
                return due_ns, slot, self._said(slot)
        if self._later and self._later[0][0] <= now_ns:
            return heapq.heappop(self._later)
        return None

    def push(self, due_ns: int, slot: int, ask: Ask) -> None:
        """A turn of a conversation, after its time to think."""
        heapq.heappush(self._later, (due_ns, slot, ask))

    def next_round(self, slot: int) -> Ask | None:
        """What a closed loop's user says next; None past the last request."""
        place = slot // self._shards
        self._rounds[place] += 1
        index = slot + self._rounds[place] * len(self._plan.starts_ns)
        return None if self._past_end(index) else self._said(index)

    @property
    def exhausted(self) -> bool:
        """Nothing is left to send, whatever comes."""
        if self._next < len(self._starts_ns) or self._later:
            return False
        if not self._plan.closed:
            return True
        users = len(self._plan.starts_ns)
        mine = range(self._shard, users, self._shards)
        indices = (slot + r * users for slot, r in zip(mine, self._rounds, strict=True))
        return all(self._past_end(index) for index in indices)

    @property
    def used(self) -> int:
        """One more than the highest number that was taken, counted from the level's first."""
        if not self._plan.closed:
            return self._shard + self._shards * self._next
        users = len(self._plan.starts_ns)
        return max(((rounds + 1) * users for rounds in self._rounds), default=0)

    def _past_end(self, index: int) -> bool:
        return self._plan.max_requests is not None and index >= self._plan.max_requests

    def _said(self, index: int) -> Ask:
        number = self._plan.first_number + index
        size = self._source.size
        if size is not None:
            self.repeated += number >= size
            number %= size
        return self._source.first(number)
