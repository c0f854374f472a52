"""Proposes the next trial: seeded, and replayable from a ledger.

A new sampler is a file here, a name in `Kind` (config.groups.search) and in `SearchSetup.sampler`, and a YAML
in conf/search.
"""

from tuner.search.base import (
    ImpossiblePoint,
    Outcome,
    Proposal,
    Resolve,
    Sampler,
    Source,
    Suggestion,
    Values,
)
from tuner.search.proposer import Proposer

__all__ = [
    "ImpossiblePoint",
    "Outcome",
    "Proposal",
    "Proposer",
    "Resolve",
    "Sampler",
    "Source",
    "Suggestion",
    "Values",
]
