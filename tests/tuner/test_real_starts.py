"""Races over what a real engine gave: one configuration under four names, started anew for each repeat.

`data/llamacpp_starts.csv`: llama.cpp, SmolLM2-135M, 4 users, tok/s of the host; measured by
`wattfront tune` with `search.confirm`, rounds in the order of time (see docs/search.md).
"""

import csv
from pathlib import Path

import numpy as np

from tuner.racing import ConfirmConfig, Race, after_round

CONFIG = ConfirmConfig(contenders=2)
RACES = 100


def starts() -> np.ndarray:
    """(rounds, names), tok/s."""
    with (Path(__file__).parent / "data" / "llamacpp_starts.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return np.array(
        [[float(value) for name, value in row.items() if name != "round"] for row in rows]
    )


def raced(seed: int, better: float) -> Race:
    """Two of the names from a random round on, one of them made better by a share."""
    random, made = np.random.default_rng(seed), starts()
    one, other = random.choice(made.shape[1], 2, replace=False)
    made = np.roll(made, -int(random.integers(len(made))), axis=0)
    values: dict[str, dict[int, float | None]] = {
        "a": dict(enumerate((made[:, one] * (1 + better)).tolist())),
        "b": dict(enumerate(made[:, other].tolist())),
    }
    race = Race(frozenset("ab"))
    while not race.ended:
        race = after_round(race, values, CONFIG)
    return race


def test_there_are_rounds_enough_for_the_longest_race() -> None:
    made = starts()
    assert made.shape[0] >= CONFIG.repeats_max
    assert made.shape[1] == 4


def test_one_configuration_under_two_names_is_called_equal() -> None:
    named = [raced(seed, 0.0).ended == "best" for seed in range(RACES)]
    assert np.mean(named) <= 0.05


def test_five_percent_are_found() -> None:
    found = [raced(seed, 0.05) for seed in range(RACES)]
    assert np.mean([race.ended == "best" and race.still == ("a",) for race in found]) >= 0.9
