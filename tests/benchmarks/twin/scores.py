"""Errors of predictions, and how often they order two configurations correctly. Pure."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from scipy.stats import spearmanr

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
TIE = 0.01  # pairs measured closer than this have no order


@dataclass(frozen=True, slots=True)
class Error:
    """Relative errors: median and 90th percentile of their size; `bias`: the signed median."""

    count: int
    median: float
    p90: float
    bias: float


def error(predicted: Iterable[float], measured: Iterable[float]) -> Error:
    pairs = zip(predicted, measured, strict=True)
    off = np.array([p / m - 1 for p, m in pairs])
    if not len(off):
        return Error(0, float("nan"), float("nan"), float("nan"))
    size = np.abs(off)
    return Error(
        len(off), float(np.median(size)), float(np.percentile(size, 90)), float(np.median(off))
    )


@dataclass(frozen=True, slots=True)
class Ordered:
    """Pairs of configurations; `right`: predicted in their measured order."""

    pairs: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.pairs if self.pairs else float("nan")


def ordered(rows: Sequence[tuple[Hashable, float, float]], least_apart: float = TIE) -> Ordered:
    """Pairs within a group whose measurements differ enough. `rows`: (group, predicted, measured)."""
    groups: dict[Hashable, list[tuple[float, float]]] = {}
    for group, predicted, measured in rows:
        groups.setdefault(group, []).append((predicted, measured))
    pairs = right = 0
    for members in groups.values():
        for (p, m), (q, n) in combinations(members, 2):
            if abs(m - n) < least_apart * min(m, n):
                continue
            pairs += 1
            right += (p > q) == (m > n) and p != q
    return Ordered(pairs, right)


def rank_correlations(
    rows: Sequence[tuple[Hashable, float, float]], fewest: int = 5
) -> list[float]:
    """Spearman's rank correlation of each group with at least `fewest` members."""
    groups: dict[Hashable, list[tuple[float, float]]] = {}
    for group, predicted, measured in rows:
        groups.setdefault(group, []).append((predicted, measured))
    return [
        float(spearmanr(*np.array(members).T).statistic)
        for members in groups.values()
        if len(members) >= fewest
    ]


def grouped(rows: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    found: dict[K, list[T]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
