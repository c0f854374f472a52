"""`make bench-precision`: time to a precise result, against 10 × concurrency requests.

The simulated engine serves all users in each step; its speed varies by 3 % with a correlation time
of 5 s, so that samples are correlated as on a real machine. The product's stopping rule ends a level
at ±3 % of throughput, TTFT and TPOT. The fixed protocol is that of public benchmarks: 10 ×
concurrency requests, results over all of them, ramp and drain included. No clock is involved.
"""

import argparse
import heapq
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from loadgen.control.live_stats import LiveStats
from loadgen.control.load_plan import fixed_load
from loadgen.control.stopping import StoppingRule, window_of
from loadgen.worker.messages import LiveUpdate
from loadgen.workload.arrivals import Closed
from loadgen.workload.workload import Workload
from tests.benchmarks.tables import put, table

ASKED, SEEDS, LOOK_S, LONGEST_S = 0.03, 12, 0.25, 400.0
STEP_S, WANDER, MEMORY_S = 0.01, 0.03, 5.0
TOKENS, PREFILL_STEPS = (160, 200), 4
USERS = (1, 16, 64, 256)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One row a request, sorted by end: due, first token, end (s), tokens."""

    rows: Floats

    def within(self, from_s: float, until_s: float) -> Floats:
        ends = self.rows[:, 2]
        return self.rows[np.logical_and(ends >= from_s, ends < until_s)]


def engine(
    users: int, length_s: float, random: np.random.Generator, requests: int = 1 << 40
) -> Run:
    """A closed loop in which all users start at once."""
    phi = float(np.exp(-STEP_S / MEMORY_S))
    noise = random.normal(size=int(length_s / STEP_S * 1.2)) * (1 - phi**2) ** 0.5
    noise[0] /= (1 - phi**2) ** 0.5
    pace = STEP_S * np.exp(WANDER * lfilter([1], [1, -phi], noise))
    clock = np.concatenate(([0.0], np.cumsum(pace)))
    last = int(np.searchsorted(clock, length_s))
    free, rows, sent = [(0, user) for user in range(users)], [], 0
    while sent < requests and free:
        at, user = heapq.heappop(free)
        tokens = int(random.integers(*TOKENS, endpoint=True))
        first = at + PREFILL_STEPS + int(random.integers(0, 3))
        end = first + tokens - 1
        if end > last:
            continue
        rows.append((clock[at], clock[first], clock[end], tokens))
        heapq.heappush(free, (end, user))
        sent += 1
    made = np.array(rows)
    return Run(made[np.argsort(made[:, 2], kind="stable")])


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens/s, and medians of TTFT and TPOT in s."""

    throughput: float
    ttft_s: float
    tpot_s: float

    def errors(self, true: "Figures") -> list[float]:
        return [
            getattr(self, name) / getattr(true, name) - 1
            for name in ("throughput", "ttft_s", "tpot_s")
        ]


def figures(rows: Floats, tokens_s: float) -> Figures:
    due, first, end, tokens = rows.T
    tpot = (end - first) / (tokens - 1)
    return Figures(tokens_s, float(np.median(first - due)), float(np.median(tpot)))


def tokens_between(run: Run, from_s: float, until_s: float) -> float:
    """Output tokens in a time span, spread evenly over the decode time of each request."""
    first, end = run.rows[:, 1], run.rows[:, 2]
    held = np.clip(np.minimum(end, until_s) - np.maximum(first, from_s), 0, None)
    return float((run.rows[:, 3] * held / (end - first)).sum())


def until_precise(users: int, run: Run) -> tuple[float, Figures]:
    """Simulated time until the product's stopping rule ends the level, checked four times a second."""
    workload = Workload(
        name="simulated",
        input_tokens=1,
        output_tokens=1,
        arrival=Closed(concurrency=(users,)),
        warmup_s=1.0,
        level_s=2.0,
        level_max_s=LONGEST_S - 10,
        precision=ASKED,
    )
    load = fixed_load(Closed(concurrency=(users,)), 0, 0)
    stats, rule, reported, at_s = LiveStats(1), StoppingRule(workload, load, 0), 0, 0.0
    ns = (run.rows[:, :3] * 1e9).astype(np.int64)
    columns = (*ns.T, run.rows[:, 3].astype(np.int64), np.ones(len(ns), np.int64))
    table_ns = np.stack(columns, axis=1)
    while True:
        at_s += LOOK_S
        at_ns = int(at_s * 1e9)
        upto = int(np.searchsorted(table_ns[:, 2], at_ns, side="right"))
        waiting = table_ns[upto:][table_ns[upto:, 0] <= at_ns, 0]
        received = int(tokens_between(run, 0, at_s) * 200)
        stats.add(0, LiveUpdate(at_ns, table_ns[reported:upto], waiting, received))
        reported = upto
        if rule.ending(stats) is not None:
            break
    due, end = stats.intervals_ns
    first = np.concatenate((stats.finished[:, 1], np.zeros(len(waiting), np.int64)))
    found = window_of(workload, load, (0, at_ns), (due, first, end))
    from_s, until_s = found.start_ns / 1e9, found.end_ns / 1e9
    rate = tokens_between(run, from_s, until_s) / (until_s - from_s)
    return at_s, figures(run.within(from_s, until_s), rate)


def fixed(users: int, random: np.random.Generator) -> tuple[float, Figures]:
    run = engine(users, LONGEST_S, random, requests=10 * users)
    seconds = float(run.rows[:, 2].max())
    return seconds, figures(run.rows, float(run.rows[:, 3].sum()) / seconds)


def truth(users: int) -> Figures:
    """From a run 100 times as long; the step time does not depend on the number of users."""
    few = min(users, 16)
    run = engine(few, 100 * LONGEST_S / few, np.random.default_rng(7))
    span_s = float(run.rows[-1, 2])
    rate = tokens_between(run, 10, span_s - 10) / (span_s - 20)
    return figures(run.rows, rate * users / few)


def line(users: int) -> list[str]:
    true = truth(users)
    cells = []
    worst = []
    for name in ("ours", "fixed"):
        times, errors = [], []
        for seed in range(SEEDS):
            random = np.random.default_rng((users, seed))
            how = (
                fixed(users, random)
                if name == "fixed"
                else until_precise(users, engine(users, LONGEST_S, random))
            )
            times.append(how[0])
            errors.append(how[1].errors(true))
        off = np.array(errors)
        within = np.percentile(np.abs(off), 95, axis=0)
        worst.append((float(np.median(times)), float(within.max()), off))
        cells += [f"{np.median(times):,.0f}", *(f"{each:.1%}" for each in within)]
    (_, ours_error, _), (fixed_s, _, off) = worst
    bias, spread = np.abs(off.mean(axis=0)), off.std(axis=0, ddof=1)
    room = ours_error**2 - bias**2  # left for random error; repeats do not reduce a bias
    repeats = np.ceil((2 * spread) ** 2 / np.where(room > 0, room, np.nan)).max()
    equal = "never" if np.isnan(repeats) else f"{max(1.0, repeats) * fixed_s:,.0f}"
    return [str(users), *cells, equal]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    args = parser.parse_args(argv)
    titles = ["users"]
    for name in (f"until ±{ASKED:.0%}", "10 × users"):
        titles += [f"{name}: s", "throughput off", "TTFT off", "TPOT off"]
    titles.append("10 × users, repeated to the same error: s")
    text = table(titles, [line(users) for users in USERS]) + "\n"
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, "bench-precision")
    return 0


if __name__ == "__main__":
    sys.exit(main())
