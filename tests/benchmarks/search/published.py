"""Published measurements as landscapes: what others' sweeps of one model on one system came to.

A configuration is all that a published row says but its load; its ladder are the loads that were measured,
which differ from one to the next. Nobody measured what does not run: nothing is dead here.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.search.landscapes import START_S, Landscape
from tests.benchmarks.twin.points import PUBLISHED
from tuner.config.groups.space import Scalar, Space
from tuner.search.space import SearchSpace

LEAST = 25  # configurations, for a search to have something to find
PARTS = (
    *("prefill_tp", "prefill_ep", "prefill_dpa", "prefill_workers"),
    *("decode_tp", "decode_ep", "decode_dpa", "decode_workers"),
)
Scenario = tuple[str, str, str, str]  # model, hardware, input, output
Figures = tuple[float, float, float]  # output tok/s/GPU, tok/s/user, TTFT in seconds
Rows = Mapping[tuple[tuple[str, Scalar], ...], Mapping[float, Figures]]


def published(path: Path = PUBLISHED) -> dict[str, Landscape]:
    """By name, of the exported points; none if the file is not there."""
    if not path.exists():
        return {}
    groups: dict[Scenario, dict[tuple[tuple[str, Scalar], ...], dict[float, Figures]]] = (
        defaultdict(lambda: defaultdict(dict))
    )
    with path.open(newline="") as file:
        # Of a configuration measured more than once, the newest counts.
        for row in sorted(csv.DictReader(file), key=lambda row: row["date"]):
            figures = _figures(row)
            if figures is None:
                continue
            scenario = (row["model"], row["hardware"], row["isl"], row["osl"])
            groups[scenario][_configuration(row)][float(row["conc"])] = figures
    return {
        f"published:{'-'.join(scenario)}": of_rows(f"published:{'-'.join(scenario)}", rows)
        for scenario, rows in sorted(groups.items())
        if len(rows) >= LEAST
    }


def of_rows(name: str, rows: Rows) -> Landscape:
    loads = np.array(sorted({load for ladder in rows.values() for load in ladder}))
    at = {load: i for i, load in enumerate(loads.tolist())}
    figures = np.full((3, len(rows), len(loads)), np.nan)
    for i, ladder in enumerate(rows.values()):
        for load, told in ladder.items():
            figures[:, i, at[load]] = told
    points = [dict(row) for row in rows]
    gpus = np.array([float(point["gpus"]) for point in points])
    engines = tuple(sorted({str(point["engine"]) for point in points}))
    kept = tuple(
        {path: value for path, value in point.items() if path != "gpus"} for point in points
    )
    if len(engines) == 1:
        kept = tuple({k: v for k, v in point.items() if k != "engine"} for point in kept)
    measured = np.isfinite(figures[0])
    return Landscape(
        name,
        SearchSpace(_space(kept), engines),
        kept,
        loads,
        *figures,
        ok=measured,
        dead=np.zeros(len(rows), bool),
        why=("",) * len(rows),
        gpus=gpus,
        start_s=np.full(len(rows), 2 * START_S),
    )


def _space(points: Sequence[Mapping[str, Scalar]]) -> Space:
    """Every value that occurs. Not all of their combinations were measured."""
    paths = [path for path in points[0] if path != "engine"]
    return Space.model_validate(
        {
            "parameters": {
                path: {"type": "categorical", "choices": _values(point[path] for point in points)}
                for path in paths
            }
        }
    )


def _values(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    return tuple(sorted(set(values), key=lambda value: (str(type(value)), value)))  # type: ignore[type-var]


def _configuration(row: Mapping[str, str]) -> tuple[tuple[str, Scalar], ...]:
    sizes: dict[str, Scalar] = {
        f"topology.{part}": row[part] == "True" if part.endswith("dpa") else _whole(row[part])
        for part in PARTS
    }
    known: dict[str, Scalar] = {
        "engine": row["framework"],
        "model.weights": row["precision"],
        "model.speculation": row["spec"],
        "topology.disaggregated": row["disagg"] == "True",
        **sizes,
        "gpus": _whole(row["num_gpu_total"]),
    }
    return tuple(known.items())


def _whole(text: str) -> int:
    return int(float(text)) if text else 0


def _figures(row: Mapping[str, str]) -> Figures | None:
    """None where one is missing. The output's share of the throughput is that of its tokens."""
    names = ("tput_per_gpu_tok_s", "median_interactivity_tok_s_user", "median_ttft_s", "conc")
    if any(not row[name] for name in names) or not _whole(row["num_gpu_total"]):
        return None
    total, itv, ttft_s = (float(row[name]) for name in names[:3])
    output = row["output_tput_per_gpu"]
    isl, osl = float(row["isl"]), float(row["osl"])
    thr = float(output) if output else total * osl / (isl + osl)
    return thr, itv, ttft_s
