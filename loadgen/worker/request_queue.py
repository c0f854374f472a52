"""The order in which one worker sends: due times and numbers of requests, without a network. Pure."""

import heapq

from loadgen.prompts.base import Request, Source
from loadgen.worker.messages import Plan


class RequestQueue:
    """One worker's share of a plan: `share` is its index and the number of workers.

    Request numbers do not depend on the number of workers: start i has number i; in a closed loop its
    user continues with i + users, i + 2 users and so on. A request's slot is the number of its start.
    """

    def __init__(self, plan: Plan, share: tuple[int, int], source: Source) -> None:
        self._plan = plan
        self._worker, self._workers = share
        self._source = source
        self._starts_ns: list[int] = plan.starts_ns[self._worker :: self._workers].tolist()
        self._next = 0
        self._rounds = [0] * (len(self._starts_ns) if plan.closed else 0)
        self._later: list[tuple[int, int, Request | None]] = []
        self.repeated = 0  # sessions sent before: the data set is too small

    def begin(self, at_ns: int) -> None:
        """Turns the plan's offsets into instants."""
        self._starts_ns = [at_ns + offset for offset in self._starts_ns]

    @property
    def due_ns(self) -> int:
        """When the next request falls due; 0 if none does without an end of another."""
        starts_ns, later = self._starts_ns, self._later
        due_ns = starts_ns[self._next] if self._next < len(starts_ns) else 0
        if later and (not due_ns or later[0][0] < due_ns):
            return later[0][0]
        return due_ns

    def pop(self, now_ns: int) -> tuple[int, int, Request] | None:
        """Due time, slot and request of one that is due."""
        starts_ns = self._starts_ns
        while self._next < len(starts_ns) and starts_ns[self._next] <= now_ns:
            slot = self._worker + self._workers * self._next
            due_ns = starts_ns[self._next]
            self._next += 1
            if not self._past_end(slot):
                return due_ns, slot, self._request(slot)
        while self._later and self._later[0][0] <= now_ns:
            due_ns, slot, request = heapq.heappop(self._later)
            request = request or self.next_round(slot)
            if request is not None:
                return due_ns, slot, request
        return None

    def push(self, due_ns: int, slot: int, request: Request) -> None:
        """A turn of a conversation, due after its think time."""
        heapq.heappush(self._later, (due_ns, slot, request))

    def push_next_round(self, due_ns: int, slot: int) -> None:
        """A closed loop's user continues later, unless the user has no request left."""
        if not self._is_last_round(slot):
            heapq.heappush(self._later, (due_ns, slot, None))

    def next_round(self, slot: int) -> Request | None:
        """The next request of a closed loop's user; None past the last one."""
        place = slot // self._workers
        self._rounds[place] += 1
        index = slot + self._rounds[place] * len(self._plan.starts_ns)
        return None if self._past_end(index) else self._request(index)

    @property
    def exhausted(self) -> bool:
        """Nothing is left to send, whatever is answered."""
        if self._next < len(self._starts_ns) or self._later:
            return False
        if not self._plan.closed:
            return True
        mine = range(self._worker, len(self._plan.starts_ns), self._workers)
        return all(map(self._is_last_round, mine))

    @property
    def used(self) -> int:
        """One more than the highest request number taken, counted from the level's first."""
        if not self._plan.closed:
            return self._worker + self._workers * self._next
        users = len(self._plan.starts_ns)
        return max(((rounds + 1) * users for rounds in self._rounds), default=0)

    def _is_last_round(self, slot: int) -> bool:
        rounds = self._rounds[slot // self._workers] + 1
        return self._past_end(slot + rounds * len(self._plan.starts_ns))

    def _past_end(self, index: int) -> bool:
        return self._plan.max_requests is not None and index >= self._plan.max_requests

    def _request(self, index: int) -> Request:
        number = self._plan.first_number + index
        size = self._source.size
        if size is not None:
            self.repeated += number >= size
            number %= size
        return self._source.first(number)
