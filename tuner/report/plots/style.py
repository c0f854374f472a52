"""One look for all plots: the palette, in which an engine has one colour everywhere, axes and PNG."""

import io
from collections.abc import Iterable
from typing import Any

INK, MUTED, GRID = "#111827", "#6b7280", "#e5e7eb"
GOLD, PALE_GOLD = "#f59e0b", "#fef3c7"  # of the Goldilocks zone
LOSS, LOSS_TEXT = "#fee2e2", "#b91c1c"
LIMIT = "#dc2626"  # a limit that is reached
FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif"
SUBTITLE = 9.5  # points

ENGINES = {
    "vllm": "#2563eb",
    "sglang": "#ea580c",
    "trtllm": "#059669",
    "llamacpp": "#9333ea",
    "nim": "#0891b2",
    "external": "#db2777",
}
VARIANTS = (
    "#60a5fa",
    "#84cc16",
    "#c026d3",
    "#0d9488",
    "#78716c",
    "#eab308",
)  # under names of their own
TIERS = ("#0f766e", "#a16207", "#475569", "#9f1239", "#4d7c0f", "#6d28d9")


def engine_colours(engines: Iterable[str]) -> dict[str, str]:
    """Engine → its colour, each engine once, in the order given. No two share one, up to six variants."""
    names = list(dict.fromkeys(engines))
    variants = [name for name in names if name not in ENGINES]
    own = {name: VARIANTS[i % len(VARIANTS)] for i, name in enumerate(variants)}
    return {name: ENGINES.get(name) or own[name] for name in names}


def tier_colours(tiers: Iterable[str]) -> dict[str, str]:
    """Tier → its colour, none of which stands for an engine."""
    return {name: TIERS[i % len(TIERS)] for i, name in enumerate(dict.fromkeys(tiers))}


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of this size in inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def title(figure: Any, text: str) -> None:
    """The figure's title, left-aligned."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)


def frame(axes: Any) -> None:
    """A grid behind the data, and no lines above and to the right."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED)


def png(figure: Any) -> bytes:
    """The figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
