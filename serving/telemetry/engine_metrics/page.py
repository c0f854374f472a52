"""The metrics page of an engine: the names of its series, as quantities that all engines share. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Literal, get_args

# `prefix_hits` of `prefix_queries`: prompt tokens, or blocks where the engine counts those. `acceptance`: a
# gauge, where the engine has no counters of drafts. `prefill_queue`, `decode_queue`: of two pools.
Quantity = Literal[
    "running",
    "waiting",
    "kv_cache_share",
    "preemptions",
    "prefix_hits",
    "prefix_queries",
    "drafts",
    "accepted_drafts",
    "acceptance",
    "prefill_queue",
    "decode_queue",
]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
COUNTERS: frozenset[Quantity] = frozenset({
    "preemptions", "prefix_hits", "prefix_queries", "drafts", "accepted_drafts",
})  # fmt: skip
# Of several series of these, such as one per data-parallel rank, the mean is taken; all others add up.
SHARES: frozenset[Quantity] = frozenset({"kv_cache_share", "acceptance"})
RANK = "attentionDpRank"  # in TensorRT-LLM's JSON, where each rank reports its own iterations


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """`paths`: tried in this order. `series`: quantity → the series that make it up.

    `from_first`: counters whose series appears with its first increment. `absent`: what to do if the engine has
    no such page.
    """

    paths: tuple[str, ...] = ()
    series: Mapping[Quantity, tuple[str, ...]] = field(default_factory=dict)
    from_first: frozenset[Quantity] = frozenset()
    absent: str = ""


def parse(body: bytes, page: MetricsPage) -> dict[Quantity, float]:
    """The quantities on a page in Prometheus' text format, or in TensorRT-LLM's JSON; empty if it has none.

    Only lines of the mapped series are looked at: a page of 200 kB costs less than a millisecond.
    """
    if body[:1] in (b"[", b"{"):
        known = _iterations(body)
        found = {name: [known[name]] for of in page.series.values() for name in of if name in known}
    else:
        text = b"\n" + body
        names = {name for of in page.series.values() for name in of}
        found = {name: values for name in names if (values := list(_values(text, name)))}
    made: dict[Quantity, float] = {}
    for quantity, series in page.series.items():
        values = [value for name in series for value in found.get(name, ())]
        if values:
            total = sum(values)
            made[quantity] = total / len(values) if quantity in SHARES else total
    if made:
        for quantity in page.from_first:
            made.setdefault(quantity, 0.0)
    return made


def together(pages: Sequence[Mapping[Quantity, float]]) -> dict[Quantity, float]:
    """The quantities of several engines: shares by their mean, all others added up."""
    made: dict[Quantity, float] = {}
    for quantity in QUANTITIES:
        values = [page[quantity] for page in pages if quantity in page]
        if values:
            made[quantity] = sum(values) / (len(values) if quantity in SHARES else 1)
    return made


def _values(text: bytes, name: str) -> Iterator[float]:
    """The values of a series with all its labels. `text` begins with a line end."""
    start = b"\n" + name.encode()
    at = text.find(start)
    while at >= 0:
        after = at + len(start)
        end = text.find(b"\n", after)
        line = text[after : len(text) if end < 0 else end]
        if line[:1] in (b"{", b" ", b"\t"):  # else a longer name
            words = line[line.rfind(b"}") + 1 :].split()
            value = _number(words[0]) if words else None
            if value is not None:
                yield value
        at = text.find(start, after)


def _number(word: bytes) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return None if isnan(value) else value


def _iterations(body: bytes) -> dict[str, float]:
    """The last iteration of each rank, its inner keys joined by dots; numbers of several ranks add up."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    rows = rows if isinstance(rows, list) else [rows]
    latest = {str(row.get(RANK, 0)): row for row in rows if isinstance(row, dict)}
    total = defaultdict[str, float](float)
    for row in latest.values():
        for name, value in _flat(row):
            total[name] += value
    used, most = (total.get(f"kvCacheStats.{name}NumBlocks") for name in ("used", "max"))
    if used is not None and most:
        total["kvCacheStats.usedShare"] = used / most
    return total


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        inner = value.items() if isinstance(value, dict) else ()
        for key, each in ((name, value), *((f"{name}.{key}", each) for key, each in inner)):
            if isinstance(each, int | float) and not isinstance(each, bool):
                yield key, float(each)
