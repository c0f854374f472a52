"""Searches replayed on a landscape: noise, failures, four at a time, and a score by the true values.

One trial is one configuration with its whole ladder. A method sees noisy values and is scored by the true ones:
the share of the landscape's hypervolume that the true points of all that it measured reach.
"""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

import numpy as np

from tests.benchmarks.search.landscapes import (
    TTFT_LIMIT_S,
    Bools,
    Floats,
    Landscape,
    hypervolume,
)

NOISE, FLAKE = 0.03, 0.08
LEVEL_S = 70.0  # ten to warm up, sixty to measure
SPREAD = 0.35  # of the logarithm of a trial's duration, where several run at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """The values of a trial, (m,) by load.

    `dead`: the server never starts, and `why` is the reason. `flake`: a transient failure.
    """

    status: Literal["measured", "dead", "flake"]
    thr: Floats
    itv: Floats
    ttft_s: Floats
    ok: Bools
    why: str = ""

    @property
    def counted(self) -> Bools:
        return self.ok & (np.nan_to_num(self.ttft_s, nan=np.inf) < TTFT_LIMIT_S)


class Method(Protocol):
    """A search over the rows of a landscape. Several rows may be asked for before the first result is told."""

    def ask(self) -> int: ...

    def tell(self, index: int, outcome: Outcome) -> None: ...


@dataclass(frozen=True, slots=True)
class Run:
    """By finished trial: share of the full hypervolume, GPU-hours so far. `cpu_s`: of one suggestion."""

    shares: tuple[float, ...]
    gpu_hours: tuple[float, ...]
    cpu_s: float
    rows: tuple[int, ...]

    def trials_to(self, share: float) -> int | None:
        return next((i + 1 for i, each in enumerate(self.shares) if each >= share), None)

    def gpu_hours_to(self, share: float) -> float | None:
        trials = self.trials_to(share)
        return None if trials is None else self.gpu_hours[trials - 1]


class Bench:
    """Measures configurations of a landscape. The same seed shows every method the same noise."""

    def __init__(
        self, landscape: Landscape, seed: int, *, noise: float = NOISE, flake: float = FLAKE
    ) -> None:
        self._land, self._seed, self._noise, self._flake = landscape, seed, noise, flake
        self._attempts: dict[int, int] = {}

    def measure(self, index: int) -> tuple[Outcome, float]:
        """And for how many seconds it holds its GPUs."""
        land, attempt = self._land, self._attempts.get(index, 0)
        self._attempts[index] = attempt + 1
        rng = np.random.default_rng([self._seed, index, attempt])
        start_s = float(land.start_s[index])
        levels = int(np.isfinite(land.thr[index]).sum())
        nothing = np.full(land.thr.shape[1], np.nan)
        none = np.zeros(land.thr.shape[1], bool)
        if rng.random() < self._flake:
            held_s = start_s + rng.random() * levels * LEVEL_S
            return Outcome("flake", nothing, nothing, nothing, none), held_s
        if land.dead[index]:
            why = land.why[index]
            return Outcome("dead", nothing, nothing, nothing, none, why), start_s
        factors = np.exp(self._noise * rng.standard_normal((3, land.thr.shape[1])))
        outcome = Outcome(
            "measured",
            land.thr[index] * factors[0],
            land.itv[index] * factors[1],
            land.ttft_s[index] * factors[2],
            land.ok[index].copy(),
        )
        return outcome, start_s + levels * LEVEL_S


class Score:
    """The share of the full hypervolume that the true points of the measured configurations reach."""

    def __init__(self, landscape: Landscape) -> None:
        self._land, self._seen = landscape, np.zeros((0, 2))
        self.share = 0.0

    def add(self, index: int) -> None:
        self._seen = front_of(np.vstack([self._seen, self._land.curves([index])]))
        self.share = hypervolume(self._seen) / self._land.full


def front_of(points: Floats) -> Floats:
    """(k, 2): those that no other is above in both."""
    kept, best = list[Floats](), 0.0
    for point in points[np.lexsort((-points[:, 1], -points[:, 0]))]:
        if point[1] > best:
            kept.append(point)
            best = float(point[1])
    return np.array(kept).reshape(-1, 2)


def replay(
    landscape: Landscape,
    method: Method,
    seed: int,
    budget: int,
    *,
    batch: int = 1,
    bench: Bench | None = None,
) -> Run:
    """`budget` finished trials, failures among them, up to `batch` at once. They end in their own order."""
    bench, score = bench or Bench(landscape, seed), Score(landscape)
    rng, order = np.random.default_rng([seed, 777]), count()
    running: list[tuple[float, int, int, Outcome, float]] = []
    shares, hours, rows = list[float](), list[float](), list[int]()
    now_s = spent = cpu_s = 0.0
    asked = 0
    while len(shares) < budget:
        while len(running) < batch and asked < budget:
            began_s = time.process_time()
            index = method.ask()
            cpu_s += time.process_time() - began_s
            asked += 1
            outcome, held_s = bench.measure(index)
            ends_s = now_s + held_s * (rng.lognormal(0.0, SPREAD) if batch > 1 else 1.0)
            heapq.heappush(running, (ends_s, next(order), index, outcome, held_s))
        now_s, _, index, outcome, held_s = heapq.heappop(running)
        began_s = time.process_time()
        method.tell(index, outcome)
        cpu_s += time.process_time() - began_s
        if outcome.status == "measured":
            score.add(index)
        spent += float(landscape.gpus[index]) * held_s / 3600
        shares.append(score.share)
        hours.append(spent)
        rows.append(index)
    return Run(tuple(shares), tuple(hours), cpu_s / budget, tuple(rows))


def greedy(landscape: Landscape, trials: int) -> list[int]:
    """The rows that, one after the other, add the most hypervolume: the choice of an oracle.

    A gain only falls as others are taken, so of most rows it need not be looked at again.
    """
    front, area = np.zeros((0, 2)), 0.0

    def gain(row: int) -> float:
        return hypervolume(np.vstack([front, landscape.curves([row])])) - area

    heap = [(-gain(row), row, 0) for row in range(len(landscape))]
    heapq.heapify(heap)
    chosen = list[int]()
    while heap and len(chosen) < trials:
        _, row, known = heapq.heappop(heap)
        if known < len(chosen):
            heapq.heappush(heap, (-gain(row), row, len(chosen)))
            continue
        chosen.append(row)
        front = front_of(np.vstack([front, landscape.curves([row])]))
        area = hypervolume(front)
    return chosen


def first_at_least(runs: Sequence[Run], share: float) -> list[float]:
    """Trials to a share, of each run; infinite where it is not reached."""
    found = (run.trials_to(share) for run in runs)
    return [float("inf") if trials is None else float(trials) for trials in found]
