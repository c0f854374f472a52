"""Which failed trials are tried again, how often, and in which order. Pure."""

from collections.abc import Iterable

from tuner.config.groups.space import ENGINE
from tuner.search.base import Proposal
from tuner.trial.result import Failed, TrialResult

MAX_RETRIES = 2
# Caused by the machine or the network, not by the configuration.
TRANSIENT_FAILURES = frozenset(
    {
        "DeployFailed",
        "EngineLeft",
        "EngineRestarted",
        "NodeLost",
        "PortTaken",
        "PowerCapLost",
        "ShardLost",
        "SupervisorDied",
        "WorkerDied",
    }
)


def is_transient(result: TrialResult) -> bool:
    """Whether the trial failed for a reason that is not its configuration."""
    return isinstance(result, Failed) and result.failure in TRANSIENT_FAILURES


def tried_again(result: TrialResult, failed_before: int) -> bool:
    """Whether a trial with this result runs again, after so many earlier attempts that failed."""
    return is_transient(result) and failed_before < MAX_RETRIES


def in_order(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The order in which trials run again: defaults first, since all others are compared with them."""
    return sorted(proposals, key=lambda each: (bool(set(each.point) - {ENGINE}), each.number))
