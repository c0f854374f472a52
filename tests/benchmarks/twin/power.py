"""Board power: measured, modelled, and the constants that would fit best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from serving.twin.config import Power
from serving.twin.engine.engine import Engine
from serving.twin.tables.catalog import SYSTEMS
from serving.twin.tables.library import Library
from tests.benchmarks.tables import table
from tests.benchmarks.twin.points import Point, newest, published_points
from tests.benchmarks.twin.runs import Outcome, simulate
from tests.benchmarks.twin.scores import Error, error

Floats = NDArray[np.float64]
NAMES = ("idle", "floor", "compute", "memory")
# Idle and floor keep their values from other sources: ten runs under load do not determine them.
BOUNDS = ((Power().idle,) * 2, (Power().floor,) * 2, (0.0, 400.0), (0.0, 10.0))


class Meter:
    """Records of each step: seconds, kernel seconds, and the shares of peak FLOP/s and bandwidth in those."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._begin = engine, engine.begin
        self.rows = list[tuple[float, float, float, float]]()
        engine.begin = self.begin  # type: ignore[method-assign]

    def begin(self, now_s: float) -> float | None:
        end_s = self._begin(now_s)
        if end_s is None:
            return None
        engine, power = self._engine, self._engine.power
        batch = next(each for each in engine._batches if each is not None)
        kernel_s, work = engine._step_s(batch), engine.work(batch)
        self.rows.append(
            (
                end_s - now_s,
                kernel_s,
                min(1.0, work.flop / (power._peak_flop_s * kernel_s)),
                min(1.0, work.bytes / (power._bandwidth_bytes_s * kernel_s)),
            )
        )
        return end_s


@dataclass(frozen=True, slots=True)
class Run:
    """A measured point and its simulation; `steps`: rows of `Meter`."""

    point: Point
    outcome: Outcome
    steps: Floats


@dataclass(frozen=True, slots=True)
class PowerScores:
    """Modelled watts of each run: with shipped constants, and with constants fitted to other layouts.

    `best`: the constants fitted to all runs.
    """

    runs: list[Run]
    shipped: list[float]
    left_out: list[float]
    best: Floats

    @property
    def left_out_error(self) -> Error:
        """Error with constants fitted to other layouts."""
        return error(self.left_out, [run.point.watts_gpu or 0.0 for run in self.runs])

    @property
    def error(self) -> Error:
        return error(self.shipped, [run.point.watts_gpu or 0.0 for run in self.runs])


def watts(run: Run, constants: Floats) -> float:
    """Mean board power without a cap: `serving.twin.engine.power` over all steps at once."""
    idle, floor, compute, memory = constants
    whole_s, kernel_s, u_compute, u_memory = run.steps.T
    busy = floor + (1 - floor) * (1 - np.exp(-compute * u_compute - memory * u_memory))
    joules = float((busy * kernel_s + idle * (whole_s - kernel_s)).sum())
    rest_s = max(0.0, run.outcome.duration_s - float(whole_s.sum()))
    max_w = SYSTEMS[run.point.config.system].power_cap_w
    return float(max_w * (joules + idle * rest_s) / run.outcome.duration_s)


def fit(runs: Sequence[Run]) -> Floats:
    """The constants of least absolute relative error, from several starts."""

    def loss(constants: Floats) -> float:
        low, high = np.array(BOUNDS).T
        inside = np.clip(constants, low, high)
        off = [abs(watts(run, inside) / (run.point.watts_gpu or 1.0) - 1) for run in runs]
        return float(np.mean(off) + np.abs(constants - inside).sum())

    shipped = Power()
    fixed = [shipped.idle, shipped.floor]
    starts = [np.array([*fixed, *free]) for free in ((9.0, 0.6), (40.0, 1.5), (120.0, 0.8))]
    found = [
        minimize(loss, start, method="Nelder-Mead", options={"maxiter": 600}) for start in starts
    ]
    best: Floats = min(found, key=lambda each: each.fun).x
    clipped: Floats = np.clip(best, *np.array(BOUNDS).T)
    return clipped


def measured(library: Library) -> PowerScores | None:
    """Scores all points with published power; None if the twin has a table for none of them."""
    runs = list[Run]()
    for point in newest(p for p in published_points() if p.watts_gpu):
        meters = list[Meter]()
        watch = lambda engine, into=meters: into.append(Meter(engine))  # noqa: E731
        outcome, _ = simulate(point.config, library, None, watch=watch)
        if not outcome.reason:
            runs.append(Run(point, outcome, np.array(meters[0].rows)))
    if not runs:
        return None
    best = fit(runs)
    layouts = {run.point.config.gpus for run in runs}
    others = {
        gpus: fit([run for run in runs if run.point.config.gpus != gpus] or runs)
        for gpus in layouts
    }
    left_out = [watts(run, others[run.point.config.gpus]) for run in runs]
    return PowerScores(runs, [run.outcome.watts_gpu for run in runs], left_out, best)


def power_table(power: PowerScores) -> str:
    lines = []
    for run, shipped, left_out in zip(power.runs, power.shipped, power.left_out, strict=True):
        c, point = run.point.config, run.point
        true_w, true_rate = point.watts_gpu or 0.0, point.tokens_s_gpu or 0.0
        lines.append(
            [
                f"{c.model} {c.weights} TP{c.tensor}/EP{c.expert}, {c.users} users",
                f"{true_w:,.0f}",
                f"{shipped:,.0f} ({shipped / true_w - 1:+.0%})",
                f"{left_out:,.0f} ({left_out / true_w - 1:+.0%})",
                f"{true_rate:,.0f}",
                f"{run.outcome.tokens_s_gpu:,.0f} ({run.outcome.tokens_s_gpu / true_rate - 1:+.0%})",
            ]
        )
    titles = [
        "board, B300 SGLang 8k/1k with 3 drafts",
        "measured W/GPU",
        "modelled",
        "fitted to the other layout",
        "measured tokens/s/GPU",
        "modelled",
    ]
    ours, others = power.error, power.left_out_error
    best = ", ".join(f"{name} {value:.3g}" for name, value in zip(NAMES, power.best, strict=True))
    note = (
        f"Shipped constants: median error {ours.median:.1%}, bias {ours.bias:+.0%}. Fitted to the other "
        f"layout: {others.median:.1%}, {others.bias:+.0%}. Fitted to all: {best}."
    )
    return f"{table(titles, lines)}\n\n{note}"
