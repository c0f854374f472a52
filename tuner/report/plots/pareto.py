"""Draws the Pareto plot: an interactive page with plotly, and a PNG with matplotlib."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.config.groups.objective import Axis
from tuner.config.study import StudyConfig
from tuner.metrics.notation import number
from tuner.report.plots.pareto_data import ParetoData, PlottedCurve, PlottedPoint, pareto_data
from tuner.report.plots.style import (
    FONT,
    GRID,
    INK,
    MUTED,
    engine_colours,
    frame,
    new_figure,
    png,
    title,
)
from tuner.results.durable import replace
from tuner.results.ledger import Finished

HTML, PNG = "pareto.html", "pareto.png"
DEFAULT = "as configured (default)"
FAR_RIGHT = 0.7  # of the axis


def write_plots(study: StudyConfig, entries: Sequence[Finished], folder: Path) -> tuple[Path, Path]:
    """The page and the PNG, written into `folder`."""
    drawn = pareto_data(study, entries)
    page, image = folder / HTML, folder / PNG
    replace(page, pareto_html(drawn).encode())
    replace(image, pareto_png(drawn))
    return page, image


def pareto_html(drawn: ParetoData) -> str:
    """A page that needs no network: hover for knobs, click the legend to hide an engine."""
    import plotly.graph_objects as go

    figure, colours = go.Figure(), engine_colours(drawn.engines)
    for engine, colour in colours.items():
        figure.add_scatter(
            x=[None], y=[None], mode="lines+markers", name=engine, legendgroup=engine,
            line={"color": colour, "width": 1.8}, marker={"size": 7}, hoverinfo="skip",
        )  # fmt: skip
    for curve in drawn.curves:
        colour = colours[curve.engine]
        figure.add_scatter(
            **_data(drawn, curve.points),
            mode="lines+markers",
            name=curve.name,
            legendgroup=curve.engine,
            showlegend=False,
            opacity=0.9 if curve.is_default else 0.4,
            line={"color": colour, "width": 1.8, "dash": "dash" if curve.is_default else "solid"},
            marker={"size": 7, "symbol": [_symbol(curve, point) for point in curve.points]},
        )
    _add_front(figure, drawn, colours)
    _add_tiers(figure, drawn)
    figure.update_layout(**_layout(drawn))
    page = figure.to_html(
        include_plotlyjs=True,
        default_height="100vh",
        config={"displaylogo": False, "responsive": True},
    )
    head = f"<head><title>{html.escape(drawn.title)}</title><style>body{{margin:0}}</style>"
    return str(page).replace("<head>", head, 1)


def _add_front(figure: Any, drawn: ParetoData, colours: dict[str, str]) -> None:
    if any(curve.is_default for curve in drawn.curves):
        dashed = {"color": MUTED, "width": 1.8, "dash": "dash"}
        figure.add_scatter(
            x=[None], y=[None], mode="lines+markers", name=DEFAULT,
            line=dashed, marker={"symbol": "diamond", "size": 7}, hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        **_data(drawn, drawn.front),
        mode="lines+markers",
        name="Pareto front",
        line={"color": INK, "width": 3, "shape": "vh" if drawn.x.direction == "max" else "hv"},
        marker={
            "size": 12,
            "color": [colours[point.engine] for point in drawn.front],
            "line": {"color": INK, "width": 2},
        },
    )


def _add_tiers(figure: Any, drawn: ParetoData) -> None:
    for name, limit in drawn.visible_slo_limits:
        figure.add_vline(
            x=limit, line={"color": MUTED, "width": 1, "dash": "dot"},
            annotation={"text": html.escape(name), "textangle": -90, "yanchor": "top", "y": 1,
                        "xanchor": "left" if drawn.x.direction == "max" else "right",
                        "font": {"size": 12, "color": MUTED}},
        )  # fmt: skip
    for point, tiers in drawn.best:
        where = f"trial {point.number}, {html.escape(point.load)}"
        left = point.x > FAR_RIGHT * drawn.reach[0]  # or a narrow page would cut the label off
        figure.add_annotation(
            x=point.x, y=point.y, text=f"<b>best for {html.escape(tiers)}</b><br>{where}",
            ax=-46 if left else 46, ay=-42, arrowhead=0, arrowcolor=INK,
            align="right" if left else "left", xanchor="right" if left else "left",
            font={"size": 12, "color": INK}, bgcolor="rgba(255,255,255,0.85)",
        )  # fmt: skip


def _data(drawn: ParetoData, points: Sequence[PlottedPoint]) -> dict[str, Any]:
    return {
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "text": [_hover(drawn, point) for point in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(drawn: ParetoData, point: PlottedPoint) -> str:
    lines = [
        f"<b>trial {point.number}: {html.escape(point.engine)}</b>, {html.escape(point.load)}",
        f"{number(point.x, 4)} {html.escape(drawn.x_label)}",
        f"{number(point.y, 4)} {html.escape(drawn.y_label)}",
        html.escape(point.detail),
        html.escape(point.limit),
        *html.escape(point.knobs).split(),
    ]
    return "<br>".join(line for line in lines if line)


def _symbol(curve: PlottedCurve, point: PlottedPoint) -> str:
    if not point.valid:
        return "x-thin-open"
    return "diamond" if curve.is_default else "circle"


def _layout(drawn: ParetoData) -> dict[str, Any]:
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": MUTED, "showline": True}
    lines = html.escape(drawn.subtitle).split("\n")
    subtitle = f"<span style='font-size:14px;color:{MUTED}'>{'<br>'.join(lines)}</span>"
    return {
        "title": {"text": f"<b>{html.escape(drawn.title)}</b><br>{subtitle}", "x": 0.02},
        "font": {"family": FONT, "size": 14, "color": INK},
        "xaxis": {
            **axis,
            "title": _axis_title(drawn.x_label, drawn.x),
            "range": [0, drawn.reach[0]],
        },
        "yaxis": {
            **axis,
            "title": _axis_title(drawn.y_label, drawn.y),
            "range": [drawn.depth, drawn.reach[1]],
        },
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "margin": {"l": 70, "r": 40, "t": 100 + 20 * len(lines), "b": 60},
        "autosize": True,
    }


def _axis_title(label: str, axis: Axis) -> str:
    return f"{label}  ({'more' if axis.direction == 'max' else 'less'} is better)"


def pareto_png(drawn: ParetoData) -> bytes:
    """The same plot as an image."""
    figure = new_figure(11, 6.6)
    axes, colours = figure.add_subplot(), engine_colours(drawn.engines)
    for engine, colour in colours.items():
        for is_default in (False, True):
            alike = [c for c in drawn.curves if (c.engine, c.is_default) == (engine, is_default)]
            _draw_curves(axes, alike, colour, is_default=is_default)
    _draw_front(axes, drawn, colours)
    _draw_tiers(axes, drawn)
    _draw_legend(figure, drawn, colours)
    title(figure, drawn.title)
    _draw_axes(axes, drawn)
    return png(figure)


def _draw_curves(
    axes: Any, curves: Sequence[PlottedCurve], colour: str, *, is_default: bool
) -> None:
    """Curves that look alike, in one collection of lines and two of marks."""
    from matplotlib.collections import LineCollection

    lines = [[(point.x, point.y) for point in curve.points] for curve in curves]
    opacity, style = (0.9, "--") if is_default else (0.35, "-")
    axes.add_collection(
        LineCollection(lines, colors=colour, alpha=opacity, linewidths=1.4, linestyles=style)
    )
    points = [point for curve in curves for point in curve.points]
    shape = {"marker": "D" if is_default else "o", "s": 4.5**2, "linewidths": 0}
    axes.scatter(
        [p.x for p in points], [p.y for p in points], color=colour, alpha=opacity, zorder=2, **shape
    )
    broken = [point for point in points if not point.valid]
    axes.scatter([p.x for p in broken], [p.y for p in broken], marker="x", color=colour, zorder=4)


def _draw_front(axes: Any, drawn: ParetoData, colours: dict[str, str]) -> None:
    xs, ys = [point.x for point in drawn.front], [point.y for point in drawn.front]
    step = "pre" if drawn.x.direction == "max" else "post"
    axes.step(xs, ys, where=step, color=INK, linewidth=2.4, zorder=5)
    axes.scatter(
        xs, ys, s=70, zorder=6, edgecolors=INK, linewidths=1.6,
        color=[colours[point.engine] for point in drawn.front],
    )  # fmt: skip


def _draw_tiers(axes: Any, drawn: ParetoData) -> None:
    for name, limit in drawn.visible_slo_limits:
        axes.axvline(limit, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
        axes.annotate(
            name, (limit, 1), xycoords=("data", "axes fraction"), xytext=(4, -6),
            textcoords="offset points", rotation=90, va="top", color=MUTED, fontsize=9,
        )  # fmt: skip
    furthest = max((point.x for point, _ in drawn.best), default=0.0)
    for place, (point, tiers) in enumerate(drawn.best):
        # One above, one below, so that neighbours stay legible; the last ones towards the middle.
        side, above = (-1 if point.x > 0.7 * furthest else 1), place % 2 == 0
        axes.annotate(
            f"best for {tiers}\ntrial {point.number}, {point.load}", (point.x, point.y),
            xytext=(26 * side, 18 if above else -40), textcoords="offset points",
            ha="left" if side > 0 else "right", fontsize=9.5, color=INK, zorder=7,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
            bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85},
        )  # fmt: skip


def _draw_legend(figure: Any, drawn: ParetoData, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker="o", markersize=5, linewidth=1.4, label=name)
        for name, colour in colours.items()
    ]
    if any(curve.is_default for curve in drawn.curves):
        dashed = Line2D(
            [], [], color=MUTED, marker="D", markersize=4.5, linestyle="--", label=DEFAULT
        )
        handles.append(dashed)
    handles.append(Line2D([], [], color=INK, linewidth=2.4, label="Pareto front"))
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=10
    )


def _draw_axes(axes: Any, drawn: ParetoData) -> None:
    axes.set_title(drawn.subtitle, loc="left", fontsize=10.5, color=MUTED)
    axes.set_xlabel(_axis_title(drawn.x_label, drawn.x), color=INK)
    axes.set_ylabel(_axis_title(drawn.y_label, drawn.y), color=INK)
    axes.set_xlim(0, drawn.reach[0])
    axes.set_ylim(drawn.depth, drawn.reach[1])
    frame(axes)
