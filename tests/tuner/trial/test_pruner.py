"""The stated risk against simulated studies, and the edges of the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tuner.trial.pruner import (
    TRIALS_MIN,
    Curve,
    MeasuredLevel,
    PruningBaseline,
    TierBest,
    from_json,
    improves,
    prune_reason,
    reach_probability,
    to_json,
)

USER, RATE, WAIT = "interactivity_tok_s_user", "throughput_output_tok_s_device", "ttft_p99_ms"
LOADS = (1.0, 4.0, 16.0, 64.0, 128.0, 256.0)
LIMITS: tuple[Mapping[str, float], ...] = (
    {WAIT: 300.0, "error_rate": 0.0},
    {WAIT: 3000.0},
)
NOISE = 0.03

Levels = list[dict[str, float | None]]


def engine(random: np.random.Generator) -> Levels:
    """A step takes longer with more in it, until its places are used up and requests wait."""
    devices = 2.0 ** random.integers(0, 4)
    alone_ms = 8 * random.lognormal(0, 0.35) / devices**0.6
    further_ms = 0.15 * random.lognormal(0, 0.45) / devices**0.8
    prefill_ms = 40 * random.lognormal(0, 0.3) / devices**0.8
    places = 2.0 ** random.integers(4, 10)
    levels: Levels = []
    for users in LOADS:
        busy = min(users, places)
        tpot_ms = alone_ms + further_ms * busy
        served_ms = 256 * tpot_ms + prefill_ms * busy
        rate = busy * 256e3 / served_ms / devices
        wait_ms = prefill_ms * (1 + busy / 8) + served_ms * (users - busy) / places
        noisy = np.exp(NOISE * random.standard_normal(3)) * (1e3 / tpot_ms, rate, wait_ms)
        levels.append({USER: noisy[0], RATE: noisy[1], WAIT: noisy[2], "error_rate": 0.0})
    return levels


@dataclass
class Count:
    trials: int = 0
    stopped: int = 0
    reached: int = 0  # of all trials, had they been measured to their end
    lost: int = 0  # of those stopped
    levels: int = 0


class Study:
    """Draws configurations blindly, and gives those up that can't reach its front."""

    def __init__(self, risk: float, first: float) -> None:
        self._baseline = PruningBaseline(
            axes=((USER, "max"), (RATE, "max")),
            front=(),
            target=(RATE, "max"),
            tiers=tuple(TierBest(limits, None) for limits in LIMITS),
            curves=(),
            risk=risk,
            first_load=first,
        )

    def trial(self, levels: Levels, count: Count) -> None:
        baseline = self._baseline
        order = sorted(range(len(LOADS)), key=lambda i: LOADS[i] != baseline.first_load)
        seen: list[MeasuredLevel] = []
        why = ""
        for turn, at in enumerate(order):
            seen.append(MeasuredLevel(LOADS[at], levels[at]))
            if why := prune_reason(baseline, seen, [LOADS[i] for i in order[turn + 1 :]]):
                break
        whole = [MeasuredLevel(load, level) for load, level in zip(LOADS, levels, strict=True)]
        would = not baseline.front or improves(baseline, whole)
        count.trials += 1
        count.levels += len(seen)
        count.stopped += bool(why)
        count.reached += would
        count.lost += bool(why) and would
        self._learn(seen, finished=not why)

    def _learn(self, seen: Sequence[MeasuredLevel], *, finished: bool) -> None:
        baseline = self._baseline
        points = [
            *baseline.front,
            *((e.metrics[USER] or 0.0, e.metrics[RATE] or 0.0) for e in seen),
        ]
        front = [p for p in points if not any(q[0] > p[0] and q[1] > p[1] for q in points)]
        bars = []
        for tier in baseline.tiers:
            inside = [
                e.metrics[RATE] or 0.0
                for e in seen
                if all((e.metrics[m] or 0.0) <= limit for m, limit in tier.limits.items())
            ]
            best = max([*inside, tier.best or 0.0])
            bars.append(TierBest(tier.limits, best or None))
        new = (curve(seen),) if finished else ()
        self._baseline = replace(
            baseline, front=tuple(front), tiers=tuple(bars), curves=(*baseline.curves, *new)
        )


def curve(seen: Sequence[MeasuredLevel]) -> Curve:
    ordered = sorted(seen, key=lambda each: each.load)
    return {
        metric: tuple((each.load, each.metrics[metric] or 0.0) for each in ordered)
        for metric in (USER, RATE, WAIT)
    }


def counted(risk: float, first: float, studies: int, trials: int = 40) -> Count:
    count = Count()
    for seed in range(studies):
        random, study = np.random.default_rng(seed), Study(risk, first)
        for _ in range(trials):
            study.trial(engine(random), count)
    return count


@pytest.mark.thorough
@pytest.mark.parametrize("first", [1.0, 64.0])
def test_fewer_trials_are_lost_than_the_risk_says_and_levels_are_saved(first: float) -> None:
    """Some 120 trials of three studies. Of ten studies at 5 %: 0 or 1 lost of 150 stopped."""
    count = counted(0.05, first, studies=3)
    assert count.stopped > 0.35 * count.trials
    assert count.lost <= 0.05 * count.stopped
    assert count.lost <= 0.05 * count.reached
    assert 1 - count.levels / count.trials / len(LOADS) > 0.1


def known(count: int, *, first: float = 64.0, risk: float = 0.05) -> PruningBaseline:
    """Curves of one kind, whose front none of a tenth of their speed can reach."""
    random = np.random.default_rng(1)
    curves = []
    for _ in range(count):
        speed = np.exp(NOISE * random.standard_normal((2, len(LOADS))))
        users = [(load, 100 / (1 + load / 64) * s) for load, s in zip(LOADS, speed[0], strict=True)]
        rates = [
            (load, load * 100 / (1 + load / 64) * s)
            for load, s in zip(LOADS, speed[1], strict=True)
        ]
        curves.append({USER: tuple(users), RATE: tuple(rates)})
    front = tuple((100 / (1 + load / 64), load * 100 / (1 + load / 64)) for load in LOADS)
    return PruningBaseline(
        axes=((USER, "max"), (RATE, "max")), front=front, target=(RATE, "max"), tiers=(),
        curves=tuple(curves), risk=risk, first_load=first,
    )  # fmt: skip


SLOW, FAST = (
    MeasuredLevel(64.0, {USER: 25.0, RATE: 1600.0}),
    MeasuredLevel(64.0, {USER: 55.0, RATE: 3500.0}),
)
REST = tuple(load for load in LOADS if load != 64)


def test_half_as_fast_is_stopped_and_says_the_risk() -> None:
    assert prune_reason(known(8), [SLOW], REST) == "can't reach the front (risk 5 %)"
    assert prune_reason(known(8, risk=0.005), [SLOW], REST).endswith("(risk 0.5 %)")


@pytest.mark.parametrize(
    ("baseline", "seen", "left"),
    [
        (known(TRIALS_MIN - 1), [SLOW], REST),
        (known(8), [FAST], REST),  # on the front
        (known(8), [MeasuredLevel(64.0, {USER: 49.0, RATE: 3150.0})], REST),  # within the noise of it
        (known(8), [SLOW], ()),
        (known(8), [MeasuredLevel(64.0, {})], REST),
        (known(8), [MeasuredLevel(64.0, {USER: 25.0, RATE: None})], REST),
        (replace(known(8), front=()), [SLOW], REST),
        (replace(known(8), tiers=(TierBest({}, -2.0),)), [SLOW], REST),  # a loss has no ratio
        (replace(known(8), tiers=(TierBest({WAIT: 500.0}, None),)), [SLOW], REST),  # no trial meets it
        (replace(known(8), tiers=(TierBest({USER: 1e9}, 1700.0),)), [SLOW], REST),
    ],
    ids=[
        "too few curves", "on the front", "near it", "nothing left", "not valid", "not known",
        "no front", "losses", "an empty tier", "a low bar",
    ],
)  # fmt: skip
def test_who_may_still_matter_goes_on(
    baseline: PruningBaseline, seen: list[MeasuredLevel], left: Sequence[float]
) -> None:
    assert prune_reason(baseline, seen, left) == ""


def test_a_later_look_may_spend_less_of_the_risk() -> None:
    baseline, near = known(40, risk=0.2), MeasuredLevel(64.0, {USER: 45.0, RATE: 2880.0})
    chance = reach_probability(baseline, [near], REST)
    assert chance is not None
    unseen = [
        MeasuredLevel(2.0**-k, {}) for k in range(1, 12)
    ]  # levels that were not valid are looks too
    assert prune_reason(baseline, [SLOW], REST)
    assert reach_probability(baseline, [SLOW, *unseen], REST) == reach_probability(
        baseline, [SLOW], REST
    )
    assert (prune_reason(baseline, [near], REST) != "") == (chance <= 0.1)
    assert prune_reason(baseline, [near, *unseen], REST) == ""


def test_less_is_better_on_an_axis_of_cost() -> None:
    baseline = known(8)
    costs = tuple(
        {USER: c[USER], "usd": tuple((load, 1e3 / rate) for load, rate in c[RATE])}
        for c in baseline.curves
    )
    cheap = replace(
        baseline,
        axes=((USER, "max"), ("usd", "min")),
        front=tuple((user, 1e3 / rate) for user, rate in baseline.front),
        curves=costs,
        target=("usd", "min"),
        tiers=(TierBest({}, 0.2),),
    )
    assert prune_reason(cheap, [MeasuredLevel(64.0, {USER: 25.0, "usd": 1e3 / 1600})], REST)
    assert not prune_reason(cheap, [MeasuredLevel(64.0, {USER: 55.0, "usd": 1e3 / 3500})], REST)


def test_one_earlier_curve_that_would_carry_it_over_is_enough_to_go_on() -> None:
    """However far it is from the others: ratios come in kinds, and the mean of two kinds is neither."""
    baseline = known(20)
    steep: Curve = {
        USER: ((1.0, 500.0), (64.0, 50.0), (256.0, 20.0)),
        RATE: ((1.0, 500.0), (64.0, 3200.0), (256.0, 5000.0)),
    }
    assert prune_reason(baseline, [SLOW], REST)
    assert not prune_reason(replace(baseline, curves=(*baseline.curves, steep)), [SLOW], REST)


def test_it_crosses_to_another_machine_as_text() -> None:
    baseline = replace(known(6), tiers=(TierBest({WAIT: 5.0}, None),))
    again = from_json(to_json(baseline))
    assert again == baseline
    assert prune_reason(again, [SLOW], REST) == prune_reason(baseline, [SLOW], REST)
