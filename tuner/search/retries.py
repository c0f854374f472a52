"""Which failed trials are tried again, how often, where, and in which order. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tuner.config.groups.space import ENGINE
from tuner.search.base import Proposal
from tuner.trial.result import Completed, Failed, TrialResult, fault_domain, host_of

MAX_RETRIES = 2
QUARANTINE_AFTER = 2  # different configurations in a row that a node fails
# What says nothing of the engine's node: the death of a worker is Ray's to notice, and the load's processes may
# be elsewhere.
NOT_THE_NODE_S = frozenset({"NodeLost", "ShardLost", "WorkerDied"})


def is_transient(result: TrialResult) -> bool:
    """Whether the trial failed for a reason that is not its configuration."""
    return isinstance(result, Failed) and fault_domain(result.failure) != "configuration"


def tried_again(result: TrialResult, failed_before: int) -> bool:
    """Whether a trial with this result runs again, after so many earlier attempts that failed."""
    return is_transient(result) and failed_before < MAX_RETRIES


def in_order(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The order in which trials run again: defaults first, since all others are compared with them."""
    return sorted(proposals, key=lambda each: (bool(set(each.point) - {ENGINE}), each.number))


def elsewhere(proposal: Proposal, result: TrialResult) -> Proposal:
    """The proposal, to be tried on another node than the one where it had this result."""
    return replace(proposal, avoid=proposal.avoid | ({host_of(result)} - {""}))


class Quarantine:
    """The nodes that fail whatever runs there, learnt from results and failed attempts in their order.

    A node is quarantined for the rest of the study once it has failed `QUARANTINE_AFTER` different
    configurations for reasons of its own, and completed none in between.
    """

    def __init__(self) -> None:
        self._failed: dict[str, dict[str, str]] = {}  # node → fingerprint → failure
        self._nodes: dict[str, tuple[str, ...]] = {}

    @property
    def nodes(self) -> Mapping[str, tuple[str, ...]]:
        """Node → the failures for which it is quarantined."""
        return self._nodes

    def add(self, result: TrialResult) -> None:
        """Learns from the end of a trial, or of an attempt at one."""
        if not (host := host_of(result)) or host in self._nodes:
            return
        if isinstance(result, Completed):
            self._failed.pop(host, None)
        elif result.failure not in NOT_THE_NODE_S and fault_domain(result.failure) in (
            "node",
            "network",
            "machine",
        ):
            failed = self._failed.setdefault(host, {})
            failed.setdefault(result.config.fingerprint, result.failure)
            if len(failed) >= QUARANTINE_AFTER:
                self._nodes[host] = tuple(failed.values())
