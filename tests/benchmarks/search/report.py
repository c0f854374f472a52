"""The results of replayed searches: tables by landscape, and a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np

from tests.benchmarks.search.landscapes import SPECS, Landscape
from tests.benchmarks.search.replay import FLAKE, LEVEL_S, NOISE, Run, first_at_least
from tests.benchmarks.tables import table

AT = (8, 12, 16, 24, 32, 48, 64, 128)
SHARES = (0.90, 0.95, 0.98)
COLOURS = ("#0b5fa5", "#d95f02", "#1b9e77", "#7570b3", "#a6761d", "#e7298a", "#444444", "#66a61e")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    landscape: str
    method: str


Runs = dict[Key, list[Run]]


def document(runs: Runs, lands: Mapping[str, Landscape]) -> str:
    parts = [_how(runs), _summary(runs)]
    for name in dict.fromkeys(key.landscape for key in runs):
        methods = {key.method: found for key, found in runs.items() if key.landscape == name}
        parts += [f"### {name}", _about(name, lands[name]), _shares(methods), _efforts(methods)]
    return "\n\n".join(parts) + "\n"


def _how(runs: Runs) -> str:
    seeds = max(len(found) for found in runs.values())
    return (
        f"*{seeds} seeds each. A trial is one configuration with its whole ladder; {NOISE:.0%} noise on "
        f"every figure, and {FLAKE:.0%} of trials have a transient failure and count. "
        "Scored on the true values: the share of the hypervolume (tok/s/user × tok/s/GPU, no queue, TTFT "
        "below 5 s) that all measured configurations reach. Median, and in brackets the quartiles. "
        f"GPU-hours: GPUs of one replica × (its start + {LEVEL_S:.0f} s a level). "
        "`x4`: four trials at once; `+prior80`, `+prior50`: with a model that orders 80 % or 50 % of pairs "
        "right.*"
    )


def _summary(runs: Runs) -> str:
    """Median trials to 95 %: a row a landscape."""
    names = list(dict.fromkeys(key.landscape for key in runs))
    methods = list(dict.fromkeys(key.method for key in runs))
    lines = []
    for name in names:
        cells = [name]
        for method in methods:
            found = runs.get(Key(name, method))
            cells.append(_reached(first_at_least(found, 0.95), found)[0] if found else "")
        lines.append(cells)
    return table(["trials to 95 %, median", *methods], lines)


def _about(name: str, land: Landscape) -> str:
    spec = SPECS.get(name)
    role = "measured by others, few points each"
    if spec is not None:
        role = "settings were chosen by it" if spec.tuning else "nothing was chosen by it"
    dead = f", {land.dead.mean():.0%} of which never serve" if land.dead.any() else ""
    return f"{len(land):,} configurations{dead}; {role}."


def _shares(methods: Mapping[str, Sequence[Run]]) -> str:
    longest = max(len(run.shares) for found in methods.values() for run in found)
    at = [trials for trials in AT if trials <= longest]
    lines = [
        [name, *(_spread([run.shares[trials - 1] for run in found if len(run.shares) >= trials])
                 for trials in at)]
        for name, found in methods.items()
    ]  # fmt: skip
    return table(["share after trials", *map(str, at)], lines)


def _efforts(methods: Mapping[str, Sequence[Run]]) -> str:
    lines = []
    for name, found in methods.items():
        reached = [_reached(first_at_least(found, share), found) for share in SHARES]
        trials = [f"{middle} ({low}–{high})" for middle, low, high in reached]
        hours = [run.gpu_hours_to(0.95) for run in found]
        gpu_hours = _median([inf if each is None else each for each in hours])
        reached_at = (
            f"{gpu_hours:.0f}" if isfinite(gpu_hours) else f"> {_median(_spent(found)):.0f}"
        )
        cpu_s = _median([run.cpu_s for run in found])
        lines.append([name, *trials, reached_at, f"{cpu_s:.3f}"])
    titles = ["trials to", *(f"{share:.0%}" for share in SHARES)]
    return table([*titles, "GPU-hours to 95%", "CPU s a trial"], lines)


def _spent(runs: Sequence[Run]) -> list[float]:
    return [run.gpu_hours[-1] for run in runs]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3f} ({low:.2f}–{high:.2f})"


def _median(values: Sequence[float]) -> float:
    """Infinite where half of them are, whatever the rest."""
    ordered, half = sorted(values), (len(values) - 1) // 2
    return ordered[half] if len(values) % 2 else (ordered[half] + ordered[half + 1]) / 2


def _reached(trials: Sequence[float], runs: Sequence[Run]) -> tuple[str, str, str]:
    """The median, and the quartiles."""
    budget = max(len(run.shares) for run in runs)
    ordered = sorted(trials)
    quarter = len(ordered) // 4
    middle, low, high = (
        f"{each:g}" if isfinite(each) else f"> {budget}"
        for each in (_median(trials), ordered[quarter], ordered[-1 - quarter])
    )
    return middle, low, high


def picture(runs: Runs, path: Path) -> None:
    """The median share by trials, and between its quartiles a band: one panel a landscape."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(key.landscape for key in runs))
    methods = list(dict.fromkeys(key.method for key in runs))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.2 * rows + 0.8), squeeze=False, sharey=True
    )
    for axis, name in zip(axes.flat, names, strict=False):
        for number, method in enumerate(methods):
            if found := runs.get(Key(name, method)):
                shortest = min(len(run.shares) for run in found)
                shares = np.array([run.shares[:shortest] for run in found])
                low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
                trials, colour = np.arange(1, shortest + 1), COLOURS[number % len(COLOURS)]
                dashed = "--" if number >= len(COLOURS) else "-"
                axis.plot(trials, middle, dashed, color=colour, label=method, linewidth=1.6)
                axis.fill_between(trials, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.axhline(0.95, color="#999999", linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks([4, 8, 16, 32, 64, 128], ["4", "8", "16", "32", "64", "128"])
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0.3, 1.01)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("trials")
    for axis in axes[:, 0]:
        axis.set_ylabel("share of the hypervolume")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(6, len(labels)), frameon=False)
    figure.tight_layout(rect=(0, 0.8 / (3.2 * rows + 0.8), 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
