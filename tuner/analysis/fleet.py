"""How many replicas of which measured configurations serve a day's demand within a budget. Pure.

A linear program: in each hour, x_ct replicas of candidate c run for tier t, whose tokens earn up to its demand:
    max Σ_t p_t s_t − Σ_ct e_c x_ct   with   s_t ≤ Σ_c r_ct x_ct,   s_t ≤ d_t,
    Σ g_c x_ct ≤ GPUs,   Σ w_ct x_ct ≤ megawatts.
Replicas may be started and stopped from hour to hour at no cost, so the hours are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.fleet import HOURS, Candidate, FleetConfig

SECONDS = 3600.0
GAP = 1e-4  # a rounded plan this close to the bound, relative to it, is taken as it is
NODES = 200  # of branch and bound, after which its best plan so far is taken
SMALL = 50  # replicas in an hour up to which branch and bound replaces a plan outside of `GAP`
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hour:
    """The plan of one hour.

    `replicas`: of each candidate. `served`, `unserved`: tier → tokens/s. `usd`: earned in the hour.
    `bound_usd`: by the relaxed plan, in fractions of replicas: no plan earns more. `usd_per_mw`,
    `usd_per_device`: what one more of each would add to the relaxed plan.
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
    """A day: `hours`, each with replicas of `candidates`."""

    candidates: tuple[Candidate, ...]
    hours: tuple[Hour, ...]

    @property
    def usd_day(self) -> float:
        """Dollars earned in the day."""
        return sum(hour.usd for hour in self.hours)

    @property
    def bound_usd_day(self) -> float:
        """Dollars a day that no plan exceeds."""
        return sum(hour.bound_usd for hour in self.hours)

    @property
    def usd_per_mw_year(self) -> float:
        """The marginal value of one more megawatt, dollars a year."""
        return 365 * sum(hour.usd_per_mw for hour in self.hours)

    @property
    def usd_per_device_year(self) -> float:
        """The marginal value of one more device, dollars a year."""
        return 365 * sum(hour.usd_per_device for hour in self.hours)


def plan(fleet: FleetConfig, candidates: Sequence[Candidate]) -> Plan:
    """The plan that earns most, in whole replicas, for each hour of the day.

    Raises ValueError if no candidate is of a tier in demand.
    """
    kept = useful(fleet, candidates)
    if not kept:
        raise ValueError("no measured configuration meets the SLO of a tier in demand")
    relaxed = _relaxed(fleet, kept, _demand(fleet))
    planned: dict[tuple[float, ...], Hour] = {}  # hours of the same demand are planned once
    for hour, demand in enumerate(_demand(fleet)):
        if tuple(demand) not in planned:
            planned[tuple(demand)] = _hour(fleet, kept, relaxed, hour)
    return Plan(kept, tuple(planned[tuple(demand)] for demand in _demand(fleet)))


def of_one_trial(fleet: FleetConfig, candidates: Sequence[Candidate]) -> Plan:
    """The best plan that uses one trial's configuration for all tiers, each at its own load.

    It is the best within `GAP`: a trial whose bound is not that much above the best so far is skipped.
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
    """The candidates of tiers in demand that no other of the tier dominates in tokens, devices and watts."""
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
    """The plan in fractions of replicas, (hours, candidates); its dollars and the dual values, (hours,)."""

    replicas: Floats
    usd: Floats
    usd_per_device: Floats
    usd_per_mw: Floats


def _relaxed(fleet: FleetConfig, kept: Sequence[Candidate], demand: Floats) -> _Relaxed:
    """All hours as the independent blocks of one linear program."""
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
    """Rounded down; then, while the budget allows, one more of the candidate that adds most."""
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


def _max_replicas(fleet: FleetConfig, kept: Sequence[Candidate], demand: Floats) -> Floats:
    """The most replicas of each candidate that fit the budget and its tier's demand."""
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
    """By branch and bound, for a few replicas; None: no plan within `NODES`."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost, rows, limits = _hourly(fleet, kept)
    n = len(kept)
    found = milp(
        cost,
        integrality=np.arange(len(cost)) < n,
        bounds=Bounds(0, np.concatenate((_max_replicas(fleet, kept, demand), demand / 1e6))),
        constraints=LinearConstraint(rows, -np.inf, limits),
        options={"mip_rel_gap": GAP, "node_limit": NODES},
    )
    if found.x is None:
        return None
    return tuple(round(x) for x in found.x[:n])
