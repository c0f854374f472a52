"""Which trial Ray Tune runs next, and on which node."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from serving.topology import Topology
from tuner.search import Proposal, Source
from tuner.study.capacity import Capacity, Placed, size
from tuner.trial.pruner import to_json

WAIT_S = 900.0
SAY_AFTER_S = 15.0
SUSPECT_S = 30.0
Look = Callable[[], Capacity]


class Unsaved:
    """Pickles as nothing: Tune saves its parts in order to restore them, but studies resume from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(Unsaved, Searcher):
    """Asks the study for a trial only when devices are free, so that each proposal knows all results so far.

    `look`: reads the capacity as it is now; None: it does not change. `wait_s`: how long a trial waits for
    devices that other work holds, or for a node that can hold it.
    """

    def __init__(
        self, source: Source, capacity: Capacity, look: Look | None = None, wait_s: float = WAIT_S
    ) -> None:
        super().__init__()
        self._source, self._capacity, self._look, self._wait_s = source, capacity, look, wait_s
        self._live: dict[str, Placed] = {}
        self._seen: set[Topology] = set()
        self._held: Proposal | None = None  # asked for, and without devices yet
        self._held_since = 0.0
        self._aside: list[Proposal] = []  # wait for a node where they have not failed yet
        self._suspects: dict[str, float] = {}  # node → when a slot died there
        self._lost: tuple[int, int] | None = None  # the largest layout, after a node was lost
        self.asked_at: dict[int, float] = {}
        self.note = ""  # what a trial waits for, for the screen
        self.gave_up = ""  # why the study ends before its time

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None to be asked again later."""
        running = list(self._live.values())
        if self._look is not None:
            self._capacity = self._look().without(self._suspected())
        self._note_returned_nodes()
        if self._held is None:
            if running and not (self._aside or self._room(running)):
                return None
            self._held, self._held_since = self._next(running), time.monotonic()
            if self._held is not None and self._only_avoids(self._held, running):
                self._aside.append(self._held)  # the nodes that it avoids are for others meanwhile
                self._held = None
                return None
        if self._held is None or self._source.closed:  # running trials' results may lead to more
            self._held, self.note = None, ""
            return None if running else str(Searcher.FINISHED)
        node = self._place(self._held, running)
        if node is None:
            return self._waited(self._held, running)
        return self._begin(trial_id, self._held, node)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Frees the trial's devices. A node whose slot died gets no trial for a while: it may be dead too."""
        node, _ = self._live.pop(trial_id, ("", None))
        if error and node:
            self._suspects[node] = time.monotonic()

    def _suspected(self) -> set[str]:
        """Of several nodes, those whose slots died a moment ago: Ray lists a dead node for some time."""
        now = time.monotonic()
        self._suspects = {n: at for n, at in self._suspects.items() if now - at < SUSPECT_S}
        return {*self._suspects} if len(self._capacity.nodes) > 1 else set()

    def save(self, checkpoint_path: str) -> None:
        """Studies resume from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    def _begin(self, trial_id: str, proposal: Proposal, node: str) -> dict[str, Any]:
        topology = proposal.config.reserves
        self._live[trial_id] = node, topology
        self._seen.add(topology)
        self._held, self.note = None, ""
        self.asked_at[proposal.number] = time.monotonic()
        return {
            "number": proposal.number,
            "trial": proposal.config.model_dump_json(),
            "baseline": to_json(proposal.baseline) if proposal.baseline else "",
            "gpus": topology.gpus,
            "cpus": topology.cores,
            "node": node,
            "host": self._capacity.name(node),
        }

    def _waited(self, held: Proposal, running: Sequence[Placed]) -> str | None:
        """The trial has no devices: it waits for our own trials, for others' work, or for a lost node."""
        topology, now = held.config.reserves, time.monotonic()
        fits = topology.fits(*self._capacity.largest)
        if running and fits:  # our own trials end, and their load takes cores too
            self._held_since = now
            if self._place(held, []) is not None:
                self.note = ""
                return None
        waited_s, what = now - self._held_since, self._capacity.waits_for(topology, running)
        if waited_s < self._wait_s and (fits or self._lost is None):
            if waited_s >= SAY_AFTER_S or not fits:
                self.note = (
                    f"trial {held.number} waits for {what}; for {self._wait_s:.0f} s at most"
                )
            return None
        if not fits:
            self._drop(held, what)
        elif not running:
            self.gave_up = (
                f"trial {held.number} waited {waited_s:.0f} s for {what}: other work holds the rest; "
                "cluster.wait_s is how long a trial waits"
            )
            self._source.close()
        return None

    def _place(self, proposal: Proposal, running: Sequence[Placed]) -> str | None:
        """The node for a trial, which waits for one where it has not failed, if any could hold it."""
        topology, workload = proposal.config.reserves, proposal.config.workload
        cores = workload.shards if workload.placement == "apart" else 0
        bad = frozenset(self._source.quarantined)
        for avoided in (bad | proposal.avoid, bad):
            capacity = self._capacity.without(self._capacity.named(avoided))
            if capacity.place(topology, (), cores) is not None:
                return capacity.place(topology, running, cores)
        return self._capacity.place(topology, running, cores)

    def _next(self, running: Sequence[Placed]) -> Proposal | None:
        """One that was put aside and has its node now; else the source's, if there is room for one."""
        for proposal in self._aside:
            if not running or self._place(proposal, running) is not None:
                self._aside.remove(proposal)
                return proposal
        return self._source.ask() if not running or self._room(running) else None

    def _only_avoids(self, proposal: Proposal, running: Sequence[Placed]) -> bool:
        """Whether it would have devices on a node where it has failed, and waits for another one."""
        if not running or self._place(proposal, running) is not None:
            return False
        anywhere = replace(proposal, avoid=frozenset())
        return self._place(anywhere, running) is not None

    def _drop(self, held: Proposal, what: str) -> None:
        """No node holds the trial's layout any more. Neither it nor larger ones are tried."""
        self._lost = self._capacity.largest
        self._source.limit(self._lost)
        self._source.unplaced(held.number, f"no node is left that holds {what}")
        self._held, self.note = None, ""

    def _note_returned_nodes(self) -> None:
        largest = self._capacity.largest
        if self._lost is not None and largest != self._lost and min(
            now - lost for now, lost in zip(largest, self._lost, strict=True)
        ) >= 0:  # fmt: skip
            self._lost = largest
            self._source.limit(largest)

    def _room(self, running: Sequence[Placed]) -> bool:
        """Whether the smallest topology seen so far fits: the next one's is unknown until it is proposed."""
        return self._capacity.place(min(self._seen, key=size), running) is not None
