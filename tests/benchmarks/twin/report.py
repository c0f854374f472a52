"""The results of the twin's benchmark as Markdown: errors, ordering, host overhead, excluded runs."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.tables import table
from tests.benchmarks.twin.fit import Floats, as_costs, as_python
from tests.benchmarks.twin.points import Point, by_littles_law
from tests.benchmarks.twin.power import PowerScores, power_table
from tests.benchmarks.twin.runs import Outcome
from tests.benchmarks.twin.scores import Error, error, grouped, ordered, rank_correlations

NAMES = {"b300_sxm": "B300", "b200_sxm": "B200", "h200_sxm": "H200"}
QUANTITIES = ("TPOT", "TTFT", "throughput/GPU")
TARGETS = {"TPOT": 0.12, "TTFT": 0.25, "throughput/GPU": 0.12}
APART = 0.1


@dataclass(frozen=True, slots=True)
class Scored:
    """A measured point and its predictions.

    `bare`: without host costs; `other`: with those fitted to other models; `whole`: with those fitted to all
    models, for points in no fit. `superseded`: a newer image is much faster.
    """

    point: Point
    bare: Outcome
    other: Outcome
    whole: Outcome | None = None
    superseded: bool = False


Pick = Callable[[Scored], Outcome]


def bare(row: Scored) -> Outcome:
    return row.bare


def other(row: Scored) -> Outcome:
    return row.other


def whole(row: Scored) -> Outcome:
    assert row.whole is not None
    return row.whole


def predicted(point: Point, outcome: Outcome) -> tuple[float, float, float]:
    """TPOT, TTFT and throughput per GPU by the published definition: means or medians, measured or derived."""
    if not point.means:
        return outcome.tpot_s, outcome.ttft_s, outcome.tokens_s_gpu
    ttft_s, tpot_s = outcome.mean_ttft_s, outcome.mean_tpot_s
    return tpot_s, ttft_s, by_littles_law(point.config, ttft_s, tpot_s)


def measured(point: Point) -> tuple[float, float, float]:
    assert point.tpot_s is not None
    assert point.ttft_s is not None
    assert point.tokens_s_gpu is not None
    return point.tpot_s, point.ttft_s, point.tokens_s_gpu


def errors(rows: Sequence[Scored], pick: Pick) -> list[Error]:
    predictions = [predicted(row.point, pick(row)) for row in rows]
    true = [measured(row.point) for row in rows]
    return [
        error([s[i] for s in predictions], [t[i] for t in true]) for i in range(len(QUANTITIES))
    ]


def percent(value: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:+.0%}" if sign else f"{value:.1%}"


def _cells(found: Sequence[Error]) -> list[str]:
    cells = [str(found[0].count)]
    for each in found:
        cells.append(
            f"{percent(each.median)} / {percent(each.p90)} / {percent(each.bias, sign=True)}"
        )
    return cells


def error_table(rows: Sequence[Scored], pick: Pick) -> str:
    titles = ["modelled against measured", "runs", *QUANTITIES]
    lines = list[list[str]]()
    systems = grouped(rows, lambda row: row.point.config.system)
    for system, name in NAMES.items():
        mine = systems.get(system, [])
        frameworks = grouped(mine, lambda row: row.point.config.framework)
        for framework in sorted(frameworks):
            lines.append([f"{name} {framework}", *_cells(errors(frameworks[framework], pick))])
        if len(frameworks) > 1:
            lines.append([f"**{name}, all**", *_cells(errors(mine, pick))])
    if len(systems) > 1:
        lines.append(["**all**", *_cells(errors(rows, pick))])
    return table(titles, lines)


def model_table(rows: Sequence[Scored]) -> str:
    """Errors by system, framework, model and precision."""

    def key(row: Scored) -> tuple[str, ...]:
        c = row.point.config
        return c.system, c.framework, c.model, c.weights

    lines = []
    for group, mine in sorted(grouped(rows, key).items()):
        before, after = errors(mine, bare), errors(mine, other)
        lines.append(
            [
                NAMES[group[0]],
                group[1],
                f"{group[2]} {group[3]}",
                str(len(mine)),
                *(
                    f"{percent(b.bias, sign=True)} → {percent(a.median)} ({percent(a.bias, sign=True)})"
                    for b, a in zip(before, after, strict=True)
                ),
            ]
        )
    return table(["system", "framework", "model", "runs", *QUANTITIES], lines)


def pair_table(rows: Sequence[Scored], pick: Pick) -> str:
    titles = [
        "modelled order against measured",
        "pairs",
        "throughput/GPU",
        f"{APART:.0%} apart",
        "TPOT",
        f"{APART:.0%} apart",
        "rank correlation over a scenario (median, worst)",
    ]
    lines = []
    for system in (*NAMES, ""):
        mine = [row for row in rows if system in ("", row.point.config.system)]
        if not mine:
            continue
        name = f"{NAMES[system]}" if system else "all"
        for equal in (True, False):
            lines.append(
                [
                    f"{name}, {'equal GPUs' if equal else 'any GPUs'}",
                    *_pairs(mine, pick, equal=equal),
                ]
            )
    return table(titles, lines)


def _pairs(rows: Sequence[Scored], pick: Pick, *, equal: bool) -> list[str]:
    triples: dict[int, list[tuple[object, float, float]]] = {0: [], 2: []}
    scenarios = list[tuple[object, float, float]]()
    for row in rows:
        c = row.point.config
        group = (c.system, c.model, c.isl, c.osl, c.users, c.gpus if equal else 0)
        predictions, true = predicted(row.point, pick(row)), measured(row.point)
        for index, triple in triples.items():
            triple.append((group, predictions[index], true[index]))
        scenario = (c.system, c.framework, c.model, c.isl, c.osl, c.gpus if equal else 0)
        scenarios.append((scenario, predictions[2], true[2]))
    cells = [str(ordered(triples[2]).pairs)]
    for index in (2, 0):
        for apart in (0.01, APART):
            found = ordered(triples[index], apart)
            cells.append(f"{percent(found.share)} ({found.pairs})")
    ranks = rank_correlations(scenarios)
    cells.append(f"{np.median(ranks):.2f}, {min(ranks):.2f} ({len(ranks)})" if ranks else "-")
    return cells


def target_table(rows: Sequence[Scored], power: Error | None) -> str:
    """Target and measured error on B300."""
    found = errors(rows, other)
    lines = [
        [f"{name}, median", f"≤ {TARGETS[name]:.0%}", percent(each.median)]
        for name, each in zip(QUANTITIES, found, strict=True)
    ]
    triples = [
        (
            (row.point.config.model, *_load(row.point), row.point.config.gpus),
            predicted(row.point, other(row))[2],
            measured(row.point)[2],
        )
        for row in rows
    ]
    pairs = ordered(triples)
    lines.append(
        ["pairs ordered rightly, equal GPUs", "≥ 88%", f"{percent(pairs.share)} of {pairs.pairs}"]
    )
    if power is not None:
        lines.append(["board power, median, another layout", "≤ 15%", percent(power.median)])
    return table(["B300, models left out of the fit", "target", "modelled"], lines)


def _load(point: Point) -> tuple[int, int, int]:
    return point.config.isl, point.config.osl, point.config.users


def cost_table(costs: Mapping[str, Floats], without: Mapping[tuple[str, str], Floats]) -> str:
    lines = []
    for framework, values in sorted(costs.items()):
        lines.append([framework, "all", f"`{as_python(as_costs(values))}`"])
        for (name, model), others in sorted(without.items()):
            if name == framework and not np.array_equal(values, others):
                lines.append([framework, f"all but {model}", f"`{as_python(as_costs(others))}`"])
    return table(["framework", "fitted to", "host costs"], lines)


def document(
    scored: Sequence[Scored],
    costs: Mapping[str, Floats],
    without: Mapping[tuple[str, str], Floats],
    power: PowerScores | None,
) -> str:
    rows = [row for row in scored if not row.superseded]
    b300 = [row for row in rows if row.point.config.system == "b300_sxm"]
    back = [row for row in rows if row.whole is not None]
    superseded = [row for row in scored if row.superseded]
    cell = "Each cell: median / 90th percentile of the relative error / median with its sign."
    parts = [
        "### Targets",
        target_table(b300, power.left_out_error if power else None),
        "### Errors, host costs fitted to other models only",
        cell,
        error_table(rows, other),
        "### The same without host costs",
        error_table(rows, bare),
        "### In no fit at all: held back, host costs fitted to all models",
        error_table(back, whole),
        "### Which of two configurations is better",
        "Pairs of configurations of one model on one system, at equal lengths and users. "
        "In brackets: how many pairs.",
        pair_table(rows, other),
        "### Model by model",
        "Error without host costs → error with those of the other models (both signed in the median).",
        model_table(rows),
    ]
    if superseded:
        parts += [
            "### Not in the above: runs that a newer image of the framework outdid",
            error_table(superseded, other),
        ]
    parts += ["### Host costs", cost_table(costs, without)]
    if power:
        parts += ["### Board power", power_table(power)]
    return "\n\n".join(parts) + "\n\n"


def left_out(excluded: Counter[str], unpredicted: Counter[str], sources: Sequence[str]) -> str:
    lines = [[str(count), why] for why, count in excluded.most_common() if count]
    lines += [[str(count), f"no prediction: {why}"] for why, count in unpredicted.most_common()]
    text = f"### Left out\n\n{table(['rows', 'why'], lines)}\n\n"
    return f"{text}Measured runs: {'; '.join(sources)}.\n"
