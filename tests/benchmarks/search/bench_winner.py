"""`make bench-winner`: what a named winner is worth, on a simulated machine whose truth is known.

Starts of one configuration differ by 2 or 3 %, and the machine's pace drifts. Against the product's races: the
same candidates in all rounds, judged once at the end. No clock and no server is involved.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.tables import put, table
from tests.tuner.samples.races import Machine, Raced, run_race
from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.race import may_be_best
from tuner.confirm.ranking import standings, verdict

RACES, SEARCHES, CANDIDATES, SPREAD = 1000, 400, 40, 0.05
CONFIG = ConfirmConfig(candidates=4)
NOISES = (0.02, 0.03)
MACHINES: Mapping[str, Machine] = {
    "2%": Machine(0.02),
    "3%": Machine(0.03),
    "3%, disturbed": Machine(0.03, bursts=0.03, fails=0.02),
}
DISTURBED = MACHINES["3%, disturbed"]
FIELDS: Mapping[str, Mapping[str, float]] = {  # title → true values
    "A/A: one configuration under two names": {"a": 100, "b": 100},
    "A/A, and a default 20 % behind": {"a": 100, "b": 100, "default": 80},
    "5 % apart": {"a": 105, "b": 100},
    "5 % apart, and a default 20 % behind": {"a": 105, "b": 100, "default": 80},
    "5 % apart, four candidates and a default": {
        "a": 105,
        "b": 100,
        "c": 99,
        "d": 97,
        "default": 84,
    },
    "five equal ones": dict.fromkeys(("a", "b", "c", "d", "default"), 100.0),
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Of races of one field: shares of right verdicts, and mean starts."""

    right: float
    starts: float
    fixed_right: float
    fixed_starts: float


def named(raced: Raced, config: ConfirmConfig = CONFIG) -> str:
    """The best that a verdict names; "" where it names none."""
    judged = verdict(raced.race, raced.values, config, (), raced.failures)
    return judged.names[0] if judged.kind == "best" else ""


def tally(field: Mapping[str, float], machine: Machine, races: int) -> Tally:
    always = frozenset({"default"} & field.keys())
    best = max(field.values())
    tops = [name for name, value in field.items() if value == best]
    once = CONFIG.model_copy(update={"repeats_min": CONFIG.repeats_max})
    found: list[tuple[str, int]] = []
    whole: list[str] = []
    for seed in range(races):
        raced = run_race(field, CONFIG, np.random.default_rng((seed, 1)), machine, always=always)
        found.append((named(raced), raced.starts))
        fixed = run_race(field, once, np.random.default_rng((seed, 1)), machine, fixed=True)
        whole.append(named(fixed, once))
    wanted = tops[0] if len(tops) == 1 else ""
    return Tally(
        float(np.mean([name == wanted for name, _ in found])),
        float(np.mean([starts for _, starts in found])),
        float(np.mean([name == wanted for name in whole])),
        float(len(field) * CONFIG.repeats_max),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """One search and what was published after it: shares by which figures exceed the truth."""

    search_bias: float
    bias: float
    short: float  # the chosen configuration's truth below the best one's
    search_short: float
    inside: bool  # the truth, at the machine's pace of these rounds, lies in the published interval
    starts: int


def searched(noise: float, seed: int) -> Found:
    """Candidates of a spread, each measured once; the first is the default."""
    random = np.random.default_rng((seed, 2))
    truth = 100 * np.exp(random.normal(0, SPREAD, CANDIDATES))
    truth[0] = 90.0
    scores = truth * np.exp(random.normal(0, noise, CANDIDATES))
    chosen = {*may_be_best(dict(enumerate(scores.tolist())), CONFIG), 0}
    field = {str(number): float(truth[number]) for number in sorted(chosen)}
    raced = run_race(field, CONFIG, random, Machine(noise), always=frozenset({"0"}))
    judged = verdict(raced.race, raced.values, CONFIG, ["0"])
    rows = {each.name: each for each in standings(raced.race, raced.values, CONFIG, {}, {})}
    name = judged.chosen or ""
    row, true, top = rows[name], field[name], int(np.argmax(scores))
    assert row.mean is not None
    assert row.low is not None
    assert row.high is not None
    then = true * float(np.exp(raced.pace))
    return Found(
        float(scores[top] / truth[top] - 1),
        row.mean / true - 1,
        1 - true / float(truth.max()),
        1 - float(truth[top] / truth.max()),
        row.low <= then <= row.high,
        raced.starts,
    )


def race_table(races: int) -> str:
    titles = ("candidates", "noise", "right", "starts", "all rounds: right", "starts")
    lines = []
    for title, field in FIELDS.items():
        for noise, machine in MACHINES.items():
            each = tally(field, machine, races)
            lines.append(
                [
                    title,
                    noise,
                    f"{each.right:.1%}",
                    f"{each.starts:.1f}",
                    f"{each.fixed_right:.1%}",
                    f"{each.fixed_starts:.0f}",
                ]
            )
            print(" | ".join(lines[-1]), file=sys.stderr, flush=True)  # noqa: T201
    return table(titles, lines)


def search_table(searches: int) -> str:
    titles = ("noise", "search's score", "published", "in its interval")
    titles += ("chosen by the search", "by the race", "starts")
    lines = []
    for noise in NOISES:
        all_found = [searched(noise, seed) for seed in range(searches)]
        mean = {
            name: float(np.mean([getattr(each, name) for each in all_found]))
            for name in Found.__dataclass_fields__
        }
        lines.append(
            [
                f"{noise:.0%}",
                f"{mean['search_bias']:+.2%}",
                f"{mean['bias']:+.2%}",
                f"{mean['inside']:.1%}",
                f"−{mean['search_short']:.2%}",
                f"−{mean['short']:.2%}",
                f"{mean['starts']:.1f}",
            ]
        )
    return table(titles, lines)


def section(races: int, searches: int) -> str:
    """Markdown, from the runs."""
    c = CONFIG
    return f"""## An honest winner

The best of many values that were measured once is biased upwards (winner's curse). So the candidates
of each tier are measured again, each on fresh starts with other prompts and arrivals, in rounds of random order
beside the engines' defaults (`search.confirm.candidates`). {c.repeats_min} to {c.repeats_max} rounds;
the intervals of differences hold at {c.confidence:.0%} whenever the race stops. It stops when one is
significantly ahead of all others, when the rest is within {c.equivalence:.1%}, when more rounds would
hardly separate them, or after the last one.

Simulated races, {races:,} a line, on a machine whose starts differ by `noise` (standard deviation)
and whose pace drifts by {Machine().drift:.0%}. Disturbed: from {DISTURBED.bursts:.0%} of all starts on, another
tenant takes one to four in a row, which fail or run at 30 to 95 % of their pace;
{DISTURBED.fails:.0%} fail by themselves. A repeat that fails or falls far off is measured once more in its
round, after another candidate's; failures count against a candidate as far as Fisher's exact test
excludes chance. Right: the better one named; where the best are equal, none. Beside them the same
without a race: all candidates in all {c.repeats_max} rounds, judged once.

{race_table(races)}

Of {CANDIDATES} candidates ({SPREAD:.0%} apart, each measured once) the best score, and the number
published after its race; {searches:,} searches a line. Each is held against its own truth (the interval
against the truth at the machine's pace meanwhile); then how far the chosen configuration is below the
best of all {CANDIDATES}.

{search_table(searches)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the section, as Markdown")
    parser.add_argument("--races", type=int, default=RACES)
    parser.add_argument("--searches", type=int, default=SEARCHES)
    args = parser.parse_args(argv)
    text = section(args.races, args.searches)
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, "bench-winner")
    return 0


if __name__ == "__main__":
    sys.exit(main())
