"""The zone against a search by hand; the knee against curves whose knee is known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.metrics.test_derive import B300, estimate
from tests.tuner.metrics.test_earnings import PRICES, RENTED
from tests.tuner.metrics.test_sensitivity import between
from tests.tuner.samples.points import CONFIG, TIMINGS, failed, point
from tuner.analysis.goldilocks import chord_heights, knee, tier_earnings, zone
from tuner.config.groups.economics import Economics, Premium, Zone
from tuner.config.groups.objective import Slo, Tier
from tuner.metrics.derive import earned
from tuner.metrics.sensitivity import inputs, moved, uncertain
from tuner.trial.result import Completed, OperatingPoint

STEPS = (
    Premium(from_tok_s_user=0, factor=estimate(0.5)),
    Premium(from_tok_s_user=40, factor=between(1.0, 0.4, 1.2)),
    Premium(from_tok_s_user=100, factor=estimate(2.0)),
)
FIGURE = "margin_usd_device_hour"
ECONOMICS = Economics(
    capacity=RENTED,
    prices=PRICES.model_copy(update={"premium": STEPS, "tiers": {"cheap": estimate(0.25)}}),
    zone=Zone(figure=FIGURE, within=0.2),
)


def at(level: int, user: float, rate: float, **more: float) -> OperatingPoint:
    """One GPU, as many prompt tokens as generated ones."""
    return point(
        level,
        interactivity_tok_s_user=user,
        throughput_output_tok_s=rate,
        throughput_output_tok_s_device=rate,
        throughput_total_tok_s=2 * rate,
        throughput_total_tok_s_device=2 * rate,
        tpot_p50_ms=1000 / user,
        error_rate=0.0,
        **more,
    )


def curve(*points: OperatingPoint) -> Completed:
    return Completed(CONFIG.model_copy(update={"hardware": B300}), points, TIMINGS, "serve")


def margin(user: float, rate: float) -> float:
    """$2.50 for a million prompt and a million output tokens."""
    factor = 0.5 if user < 40 else 1.0 if user < 100 else 2.0
    return factor * rate * 3600 / 1e6 * 2.5 - 5


PLANE = [
    (20.0, 1500.0),
    (39.0, 1000.0),
    (41.0, 900.0),
    (60.0, 850.0),
    (90.0, 500.0),
    (110.0, 380.0),
]


def test_the_zone_is_what_a_search_by_hand_finds() -> None:
    results = [failed(), curve(*(at(i, *each) for i, each in enumerate(PLANE)))]
    found = zone(results, ECONOMICS)
    assert found is not None
    assert (found.best.index, found.best.tok_s_user) == (1, 41)
    assert found.best.earns == pytest.approx(margin(41, 900))
    inside = [user for user, rate in PLANE if margin(user, rate) >= 0.8 * margin(41, 900)]
    assert [spot.tok_s_user for spot in found.members] == inside == [41, 60]
    # At 0.4 times the list price from 40 tok/s on, it pays to be slow, or fast beyond 100.
    assert [(name, value, spot.tok_s_user) for name, value, spot in found.moves] == [
        ("prices.premium.1.factor", 0.4, 110.0)
    ]
    assert found.speeds == (41, 60)
    assert found.reach == (41, 110)
    assert found.band is not None
    assert found.band.low == pytest.approx(0.4 * (margin(41, 900) + 5) - 5)


@given(
    st.lists(st.tuples(st.floats(10, 130), st.floats(100, 2000)), min_size=1, max_size=9),
    st.sampled_from([STEPS, STEPS[::2], ()]),
)
def test_where_the_best_moves_is_what_a_search_by_hand_finds(
    plane: list[tuple[float, float]], steps: tuple[Premium, ...]
) -> None:
    """Factors that may fall with speed among them: then a point that is worse at everything may earn most."""
    prices = PRICES.model_copy(update={"premium": steps, "usd_per_m_output": between(2, 0.5, 4)})
    economics = ECONOMICS.model_copy(update={"prices": prices})
    made = curve(*(at(i, *each) for i, each in enumerate(plane)))
    found = zone([made], economics)
    assert found is not None

    def most(case: Economics) -> float:
        figures = (earned(p.metrics, 1, B300, case)[FIGURE] for p in made.points)
        return max(each for each in figures if each is not None)

    moved_to = {(name, value): spot.earns for name, value, spot in found.moves}
    for path in uncertain(economics):
        for end in (0, 1):
            case, name = moved(economics, {path: end}), ".".join(map(str, path))
            stays = earned(found.best.point.metrics, 1, B300, case)[FIGURE]
            earns = moved_to.get((name, inputs(case)[name].value), stays)
            assert earns == pytest.approx(most(case))


def test_a_tier_is_sold_at_its_own_price() -> None:
    results = [curve(*(at(i, *each) for i, each in enumerate(PLANE)))]
    slo = Slo(
        tiers={
            "cheap": Tier(tpot_p50_ms=60),
            "fast": Tier(tpot_p50_ms=10),
            "no": Tier(tpot_p50_ms=1),
        }
    )
    found = tier_earnings(results, slo, ECONOMICS)
    cheap, fast = found["cheap"], found["fast"]
    assert cheap is not None
    assert fast is not None
    assert found["no"] is None
    assert cheap.spot.tok_s_user == 20, "at one price for all the most tokens win"
    assert cheap.spot.earns == pytest.approx(0.25 * 1500 * 3600 / 1e6 * 2.5 - 5)
    assert fast.spot.earns == pytest.approx(margin(110, 380))
    band = cheap.bands["revenue_usd_device_hour"]
    assert band is not None
    assert band.low == band.high == pytest.approx(cheap.spot.earns + 5)


def test_points_without_a_price_are_in_no_zone() -> None:
    unpriced = curve(at(0, 20, 1500))
    bare = replace(unpriced, config=CONFIG)
    assert zone([failed()], ECONOMICS) is None
    assert zone([bare], ECONOMICS.model_copy(update={"capacity": None})) is None
    invalid = replace(unpriced.points[0], invalid_because=("late",))
    assert zone([replace(unpriced, points=(invalid,))], ECONOMICS) is None


def test_the_knee_of_a_bent_line_is_its_bend() -> None:
    plane = [
        (10.0, 1000.0),
        (20.0, 950.0),
        (40.0, 900.0),
        (60.0, 300.0),
        (80.0, 120.0),
        (100.0, 50.0),
    ]
    found = knee([curve(*(at(i, *each) for i, each in enumerate(plane)))])
    assert found is not None
    assert found.values == (40.0, 900.0)


def test_a_straight_line_has_no_knee() -> None:
    assert knee([curve(*(at(i, 10.0 * 2**i, 1000.0 / 2**i) for i in range(5)))]) is None
    assert knee([curve(at(0, 10, 100), at(1, 20, 50))]) is None
    assert knee([]) is None


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=3, max_size=12, unique=True)
)
def test_units_do_not_move_the_knee(plane: list[tuple[float, float]]) -> None:
    rising = sorted({x for x, _ in plane})
    falling = sorted({y for _, y in plane}, reverse=True)
    front = list(zip(rising, falling, strict=False))
    if len(front) < 3:
        return
    heights = chord_heights(front)
    scaled = chord_heights([(7 * x, 0.01 * y) for x, y in front])
    assert heights == pytest.approx(scaled, abs=1e-6)
    assert heights[0] == pytest.approx(0)
    assert heights[-1] == pytest.approx(0)
