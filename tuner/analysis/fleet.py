"""How many replicas of which measured configuration serve a day's demand within a budget. Pure.

A linear program: in each hour, x_ct replicas of candidate c run for tier t; its tokens earn up to its demand:
    max Σ_t p_t s_t − Σ_ct e_c x_ct   with   s_t ≤ Σ_c r_ct x_ct,   s_t ≤ d_t,
    Σ g_c x_ct ≤ GPUs,   Σ w_ct x_ct ≤ megawatts.
Replicas may be started and stopped from hour to hour, at no cost; so the hours are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.fleet import HOURS, Candidate, FleetConfig

SECONDS = 3600.0
GAP = 1e-4  # a rounded plan this close to the bound, relative to it, is taken as it is
NODES = 200  # of branch and bound: what it has by then is taken, and its distance from the bound is stated
SMALL = 50  # replicas in an hour, up to which one that is not is made anew by branch and bound
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hour:
    """`replicas`: of each candidate. Tokens a second by tier; dollars in the hour.

    `usd_per_mw`, `usd_per_device`: what one more of each would earn in the hour, of the plan in fractions.
    `bound_usd`: what that plan earns: no plan earns more.
    """

    replicas: tuple[int, ...]
    served: dict[str, float]
    unserved: dict[str, float]
    devices: int
    megawatts: float
    usd: float
    bound_usd: float
    usd_per_mw: float
    usd_per_device: float


@dataclass(frozen=True, slots=True)
class Plan:
    candidates: tuple[Candidate, ...]
    hours: tuple[Hour, ...]

    @property
    def usd_day(self) -> float:
        return sum(hour.usd for hour in self.hours)

    @property
    def bound_usd_day(self) -> float:
        return sum(hour.bound_usd for hour in self.hours)

    @property
    def usd_per_mw_year(self) -> float:
        """The marginal value of one more megawatt, all else as it is."""
        return 365 * sum(hour.usd_per_mw for hour in self.hours)

    @property
    def usd_per_device_year(self) -> float:
        return 365 * sum(hour.usd_per_device for hour in self.hours)


def plan(fleet: FleetConfig, candidates: Sequence[Candidate]) -> Plan:
    """The plan that earns most, in whole replicas, for each hour of the day. Raises ValueError without any."""
    kept = useful(fleet, candidates)
    if not kept:
        raise ValueError("no measured configuration keeps the promises of a tier in demand")
    relaxed = _relaxed(fleet, kept, _demand(fleet))
    alike: dict[tuple[float, ...], Hour] = {}  # hours of the same demand are planned once
    for hour, demand in enumerate(_demand(fleet)):
        if tuple(demand) not in alike:
            alike[tuple(demand)] = _hour(fleet, kept, relaxed, hour)
    return Plan(kept, tuple(alike[tuple(demand)] for demand in _demand(fleet)))


def of_one_trial(fleet: FleetConfig, candidates: Sequence[Candidate]) -> Plan:
    """The best plan that uses one trial's configuration for all tiers, each at its own load.

    Within `GAP`: a trial that promises no more than that above what was found is not planned.
    """

    def alone(trial: int) -> tuple[Candidate, ...]:
        return useful(fleet, [c for c in candidates if c.trial == trial])

    def usd_day(trial: int, demand: Floats) -> float:
        """In fractions of replicas."""
        return HOURS * float(_relaxed(fleet, alone(trial), demand).usd.mean())

    able = {c.trial for c in candidates if c.tier in fleet.demand and c.output_tok_s > 0}
    day = _demand(fleet)
    # Earnings are concave in demand: a mean hour bounds the day's.
    mean = day.mean(axis=0, keepdims=True)
    bounds = {trial: usd_day(trial, mean) for trial in able}
    best: Plan | None = None
    for trial in sorted(bounds, key=lambda each: -bounds[each]):
        enough = -inf if best is None else best.usd_day * (1 + GAP)
        if bounds[trial] <= enough:
            break
        if usd_day(trial, day) > enough:
            found = plan(fleet, alone(trial))
            best = found if best is None or found.usd_day > best.usd_day else best
    assert best is not None, "there is a candidate"
    return best


def useful(fleet: FleetConfig, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Without those that another one of the tier beats: as many tokens from no more GPUs and no more watts."""
    able = [c for c in candidates if c.tier in fleet.demand and c.output_tok_s > 0]
    kept: list[Candidate] = []
    for one in sorted(able, key=lambda c: (c.devices, c.watts, -c.output_tok_s)):
        beaten = any(
            other.tier == one.tier
            and other.output_tok_s >= one.output_tok_s
            and other.devices <= one.devices
            and other.watts <= one.watts
            for other in kept
        )
        if not beaten:
            kept.append(one)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """The plan in fractions of replicas, (hours, candidates), and by hour its dollars and the duals."""

    replicas: Floats
    usd: Floats
    usd_per_device: Floats
    usd_per_mw: Floats


def _relaxed(fleet: FleetConfig, kept: Sequence[Candidate], demand: Floats) -> _Relaxed:
    """All hours in one linear program: they share nothing, so its blocks are theirs."""
    from scipy.optimize import linprog
    from scipy.sparse import block_diag

    cost, rows, limits = _hourly(fleet, kept)
    n, (hours, tiers) = len(kept), demand.shape
    upper = np.full((hours, n + tiers), np.inf)
    upper[:, n:] = demand / 1e6
    bounds = np.stack((np.zeros(upper.size), upper.ravel()), axis=1)
    found = linprog(
        np.tile(cost, hours),
        block_diag([rows] * hours, format="csr"),
        np.tile(limits, hours),
        bounds=bounds,
        method="highs",
    )
    assert found.status == 0, found.message
    x = found.x.reshape(hours, -1)
    duals = -found.ineqlin.marginals.reshape(hours, -1)
    return _Relaxed(x[:, :n], -(x @ cost), duals[:, 0], duals[:, 1])


def _hourly(fleet: FleetConfig, kept: Sequence[Candidate]) -> tuple[Floats, Floats, Floats]:
    """cost, rows, limits: min cost · (x, s) with rows · (x, s) ≤ limits; s in millions of tokens a second."""
    tiers, n = list(fleet.demand), len(kept)
    rows = np.zeros((2 + len(tiers), n + len(tiers)))
    rows[0, :n] = [c.devices for c in kept]
    rows[1, :n] = [c.watts / 1e6 for c in kept]
    cost = np.zeros(n + len(tiers))
    cost[:n] = [_power_usd(fleet, c.watts) for c in kept]
    for t, (tier, each) in enumerate(fleet.demand.items()):
        rows[2 + t, :n] = [-c.output_tok_s / 1e6 if c.tier == tier else 0.0 for c in kept]
        rows[2 + t, n + t] = 1
        cost[n + t] = -SECONDS * each.usd_per_m_output_tok.value
    return cost, rows, np.concatenate(([fleet.devices, fleet.megawatts], np.zeros(len(tiers))))


def _demand(fleet: FleetConfig) -> Floats:
    """(hours, tiers), in tokens a second."""
    return np.array([[each.tok_s(h) for each in fleet.demand.values()] for h in range(HOURS)])


def _power_usd(fleet: FleetConfig, watts: float) -> float:
    return watts / 1000 * fleet.power_usd_per_kwh.value


def _hour(fleet: FleetConfig, kept: Sequence[Candidate], relaxed: _Relaxed, hour: int) -> Hour:
    demand, bound_usd = _demand(fleet)[hour], float(relaxed.usd[hour])
    counts = _rounded(fleet, kept, relaxed.replicas[hour], demand)
    found = _result(fleet, kept, counts, demand)
    if found.usd < bound_usd * (1 - GAP) and sum(counts) <= SMALL:
        exact = _result(fleet, kept, _exact(fleet, kept, demand) or counts, demand)
        found = max(found, exact, key=lambda each: each.usd)
    return replace(
        found,
        bound_usd=bound_usd,
        usd_per_mw=float(relaxed.usd_per_mw[hour]),
        usd_per_device=float(relaxed.usd_per_device[hour]),
    )


def _result(
    fleet: FleetConfig, kept: Sequence[Candidate], counts: Sequence[int], demand: Floats
) -> Hour:
    asked = dict(zip(fleet.demand, map(float, demand), strict=True))
    made = dict.fromkeys(asked, 0.0)
    for n, c in zip(counts, kept, strict=True):
        made[c.tier] += n * c.output_tok_s
    served = {tier: min(made[tier], asked[tier]) for tier in asked}
    prices = {tier: each.usd_per_m_output_tok.value for tier, each in fleet.demand.items()}
    watts = sum(n * c.watts for n, c in zip(counts, kept, strict=True))
    earned = sum(served[tier] * SECONDS / 1e6 * prices[tier] for tier in asked)
    usd = earned - _power_usd(fleet, watts)
    return Hour(
        replicas=tuple(counts),
        served=served,
        unserved={tier: asked[tier] - served[tier] for tier in asked},
        devices=sum(n * c.devices for n, c in zip(counts, kept, strict=True)),
        megawatts=watts / 1e6,
        usd=usd,
        bound_usd=usd,
        usd_per_mw=0.0,
        usd_per_device=0.0,
    )


def _rounded(
    fleet: FleetConfig, kept: Sequence[Candidate], fractions: Floats, demand: Floats
) -> tuple[int, ...]:
    """Rounded down; then, while there is room, one more of the candidate that adds most."""
    counts = [int(x + 1e-9) for x in fractions]
    start = _result(fleet, kept, counts, demand)
    devices, watts = fleet.devices - start.devices, (fleet.megawatts - start.megawatts) * 1e6
    left = dict(start.unserved)

    def gain(c: Candidate) -> float:
        price = fleet.demand[c.tier].usd_per_m_output_tok.value
        return min(left[c.tier], c.output_tok_s) * SECONDS / 1e6 * price - _power_usd(
            fleet, c.watts
        )

    while True:
        fitting = [
            i for i, c in enumerate(kept) if c.devices <= devices and c.watts <= watts + 1e-6
        ]
        best = max(fitting, key=lambda i: gain(kept[i]), default=None)
        if best is None or gain(kept[best]) <= 0:
            return tuple(counts)
        counts[best] += 1
        devices, watts = devices - kept[best].devices, watts - kept[best].watts
        left[kept[best].tier] = max(0.0, left[kept[best].tier] - kept[best].output_tok_s)


def _most(fleet: FleetConfig, kept: Sequence[Candidate], demand: Floats) -> Floats:
    """How many replicas of each fit the budget, and are of use."""
    asked = dict(zip(fleet.demand, demand, strict=True))
    return np.array(
        [
            min(
                fleet.devices // c.devices,
                int(fleet.megawatts * 1e6 / c.watts + 1e-9),
                ceil(asked[c.tier] / c.output_tok_s),
            )
            for c in kept
        ],
        dtype=np.float64,
    )


def _exact(fleet: FleetConfig, kept: Sequence[Candidate], demand: Floats) -> tuple[int, ...] | None:
    """By branch and bound, for a few replicas, of which each one counts; None: nothing within `NODES`."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost, rows, limits = _hourly(fleet, kept)
    n = len(kept)
    found = milp(
        cost,
        integrality=np.arange(len(cost)) < n,
        bounds=Bounds(0, np.concatenate((_most(fleet, kept, demand), demand / 1e6))),
        constraints=LinearConstraint(rows, -np.inf, limits),
        options={"mip_rel_gap": GAP, "node_limit": NODES},
    )
    if found.x is None:
        return None
    return tuple(round(x) for x in found.x[:n])
