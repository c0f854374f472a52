"""Two configurations on the same documents: the difference of their shares of right answers. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm


@dataclass(frozen=True, slots=True)
class Pairs:
    """Documents by who is right: both, the first alone, the second alone, neither."""

    both: int
    first: int
    second: int
    neither: int

    @property
    def count(self) -> int:
        """All documents."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The second's share minus the first's."""
        return (self.second - self.first) / self.count if self.count else 0.0


def pairs_of(first: Sequence[bool], second: Sequence[bool]) -> Pairs:
    """Document by document. Raises ValueError for unequal numbers."""
    pairs = list(zip(first, second, strict=True))
    count = pairs.count
    return Pairs(
        count((True, True)), count((True, False)), count((False, True)), count((False, False))
    )


def paired_interval(pairs: Pairs, confidence: float) -> tuple[float, float]:
    """Of the second's share minus the first's: the score interval for paired data, its correlation corrected
    for continuity (Newcombe, Statistics in Medicine 17, 1998, 2635: method 10)."""
    count = pairs.count
    if not count:
        return -1.0, 1.0
    z = float(norm.ppf((1 + confidence) / 2))
    ones = pairs.both + pairs.first, pairs.both + pairs.second
    (low_1, high_1), (low_2, high_2) = (wilson(hits, count, z) for hits in ones)
    share_1, share_2 = (hits / count for hits in ones)
    phi = _correlation(pairs)
    down, up = share_2 - low_2, high_1 - share_1
    below = math.sqrt(max(down**2 - 2 * phi * down * up + up**2, 0.0))
    up, down = high_2 - share_2, share_1 - low_1
    above = math.sqrt(max(up**2 - 2 * phi * up * down + down**2, 0.0))
    difference = pairs.difference
    return max(difference - below, -1.0), min(difference + above, 1.0)


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """The score interval of a share (Wilson, Journal of the American Statistical Association 22, 1927)."""
    middle = (hits + z * z / 2) / (count + z * z)
    half = z * math.sqrt(hits * (count - hits) / count + z * z / 4) / (count + z * z)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _correlation(pairs: Pairs) -> float:
    rows = (pairs.both + pairs.first) * (pairs.second + pairs.neither)
    columns = (pairs.both + pairs.second) * (pairs.first + pairs.neither)
    if not rows or not columns:
        return 0.0
    product = pairs.both * pairs.neither - pairs.first * pairs.second
    corrected = max(product - pairs.count / 2, 0.0) if product > 0 else float(product)
    return corrected / math.sqrt(rows * columns)
