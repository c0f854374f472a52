"""What to try next: seeded, replayable from a ledger. A new sampler: its file here, its name in `config.Kind`
and in `sampler_of`, its YAML in conf/search."""

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
