"""Prompts of a set length. No two begin alike: no prefix cache shall answer for the engine."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

_BODIES = 256
_BODY_TOKENS = 500_000
_DISTINCT_TOKENS = 3

# Common English words, each one token to most tokenizers when a space precedes it.
WORDS = (
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
    "car",
    "city",
    "community",
    "name",
    "president",
    "team",
    "minute",
    "idea",
    "body",
    "information",
    "back",
    "parent",
    "face",
    "others",
    "level",
    "office",
    "door",
    "health",
    "person",
    "art",
    "war",
    "history",
    "party",
    "result",
    "change",
    "morning",
    "reason",
    "research",
    "girl",
    "guy",
    "moment",
    "air",
    "teacher",
    "force",
    "education",
)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt of a request by its number: a few distinct pieces, then one of some bodies."""

    pieces: tuple[bytes, ...]
    bodies: tuple[bytes, ...]
    leading: int
    separator: bytes
    opening: bytes
    closing: bytes
    offset: int

    def encoded(self, number: int) -> bytes:
        """As JSON."""
        body = self.bodies[number % len(self.bodies)]
        rest = number + self.offset
        lead = []
        for _ in range(self.leading):
            rest, index = divmod(rest, len(self.pieces))
            lead.append(self.pieces[index])
        if body:
            lead.append(body)
        return self.opening + self.separator.join(lead) + self.closing


def token_ids(length: int, vocabulary: int, seed: int) -> Prompts:
    """Exactly `length` ids, drawn from where vocabularies keep plain text.

    Special tokens sit at the low end of a vocabulary, or at the very top.
    """
    low = min(1000, vocabulary // 8)
    high = max(vocabulary - vocabulary // 50, low + 1)
    random = np.random.default_rng(seed)
    pieces = tuple(str(i).encode() for i in random.permutation(np.arange(low, high)))
    return _prompts(pieces, length, random, b",", (b"[", b"]"))


def text(length: int, seed: int) -> Prompts:
    """`length` words: about as many tokens; what it was in truth, the reply's `usage` says."""
    random = np.random.default_rng(seed)
    pieces = tuple(WORDS[i].encode() for i in random.permutation(len(WORDS)))
    return _prompts(pieces, length, random, b" ", (b'"', b'"'))


def _prompts(
    pieces: tuple[bytes, ...],
    length: int,
    random: np.random.Generator,
    separator: bytes,
    brackets: tuple[bytes, bytes],
) -> Prompts:
    leading = min(_DISTINCT_TOKENS, length)
    rest = length - leading
    count = max(4, min(_BODIES, _BODY_TOKENS // length))
    picks: NDArray[np.int64] = random.integers(0, len(pieces), (count, rest))
    bodies = tuple(separator.join([pieces[i] for i in row]) for row in picks.tolist())
    offset = int(random.integers(0, len(pieces)))
    return Prompts(pieces, bodies, leading, separator, *brackets, offset)


def decoded(prompt: bytes) -> list[int] | str:
    """The other way round, for whoever wants to see one."""
    return msgspec.json.decode(prompt, type=list[int] | str)
