"""Plots of a page, as SVG within it, which take the page's font and text colour."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from llie_preproc.errors import needs

from ..score_table import Numbers
from .html_blocks import BLOCKS, Html
from .palette import COLOURS

with needs("a report"):
    import matplotlib
    from matplotlib.figure import Figure

_MARKERS = "os^Dv"
_DASHES = ("-", "--", "-.", ":")

# More lines than this hide behind a legend within the axes.
_LEGEND_WITHIN = 3

# matplotlib writes this colour for text and axes; the page's own text colour replaces it, light or dark.
_INK = "#010203"
_GRID: Any = dict(alpha=0.25, color="#888888")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llie_preproc",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


def line_plot(
    series: Mapping[str, Mapping[float, float]],
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: int | None = None,
) -> Html:
    """Lines through points, one for each named series of x to y.

    Args:
        series: Points of each line.
        title: Text above the plot.
        x_label: Name of the horizontal axis, with its unit.
        y_label: Name of the vertical axis, with its unit.
        log_x: Logarithmic horizontal axis, marked at the points alone.
        y_range: Ends of the vertical axis.
        marks: Number of points of a line that are marked, about; None: all.
    """
    # A legend of many lines stands below the axes, which keep their height.
    below = len(series) > _LEGEND_WITHIN
    figure = Figure(figsize=(6.4, 3.4 + below * 0.25 * math.ceil(len(series) / 2)), layout="constrained")
    with matplotlib.rc_context(_STYLE):
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(series.items()):
            step = math.ceil(len(points) / marks) if marks else 1
            axes.plot(
                list(points),
                list(points.values()),
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                # Lines that lie upon each other are marked at different places.
                markevery=(number * step // len(series), step),
                linestyle=_DASHES[number % len(_DASHES)] if marks else "-",
                label=name,
            )
        if log_x:
            ticks = sorted({x for points in series.values() for x in points})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
            axes.minorticks_off()
        axes.set(xlabel=x_label, ylabel=y_label, ylim=y_range)
        axes.grid(**_GRID)
        if below:
            figure.legend(loc="outside lower left", ncols=2, frameon=False, handlelength=3.5)
        else:
            axes.legend(frameon=False)
        return _svg(figure, title)


def bar_panels(
    values: Mapping[str, Mapping[str, float]],
    x_label: str,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    columns: int = 2,
) -> Html:
    """A small plot for each group, ``values[series][group]``, in which every series is a named horizontal bar.

    All share one axis from 0; a value that is NaN is a dash.

    Args:
        values: Values by series and group, 0 or more.
        x_label: Name of the axis, with its unit.
        ranges: Intervals of some values, drawn as whiskers.
        columns: Number of plots that stand side by side where there is room.
    """
    groups = dict.fromkeys(group for series in values.values() for group in series)
    ends = [x for row in values.values() for x in row.values()]
    ends += [high for row in (ranges or {}).values() for _, high in row.values()]
    top = max((x for x in ends if not math.isnan(x)), default=0) or 1
    panels = [
        _bar_panel(
            group,
            {name: row.get(group, math.nan) for name, row in values.items()},
            {name: row[group] for name, row in (ranges or {}).items() if group in row},
            x_label,
            top,
        )
        for group in groups
    ]
    return BLOCKS.grid(panels, columns, "gallery panels")


def standalone_svg(plot: Html) -> str:
    """The drawing of a plot as an SVG file of its own: black on white, with its title as the file's."""
    title, drawing = plot.removeprefix('<figure class="plot"><figcaption>').split("</figcaption><svg ", 1)
    start, rest = drawing.removesuffix("</figure>").split(">", 1)
    return f'<svg style="background:#fff;color:#1b1f24" {start}><title>{title}</title>{rest}'


def _bar_panel(
    title: str, bars: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], x_label: str, top: float
) -> Html:
    figure = Figure(figsize=(3.8, 0.55 + 0.21 * len(bars)), layout="constrained")
    with matplotlib.rc_context(_STYLE | {"font.size": 8}):
        axes = figure.add_subplot()
        for place, (name, value) in enumerate(bars.items()):
            low, high = (value, value) if math.isnan(value) else ranges.get(name, (value, value))
            axes.barh(place, 0 if math.isnan(value) else value, 0.74, color=COLOURS[place % len(COLOURS)])
            if low < high:
                axes.plot([low, high], [place, place], color=_INK, linewidth=1.1, marker="|", markersize=5)
            end = max(x for x in (0.0, value, high) if not math.isnan(x))
            axes.text(end + 0.015 * top, place, Numbers(1).text(value), va="center", fontsize=7)
        axes.set_yticks(range(len(bars)), list(bars))
        # Room for the value beside the longest bar.
        axes.set(xlabel=x_label, xlim=(0, 1.14 * top), ylim=(len(bars) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", **_GRID)
        axes.set_axisbelow(True)
        return _svg(figure, title)


def _svg(figure: Figure, title: str) -> Html:
    """The figure on the page; matplotlib escapes the texts that are drawn."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue().partition("<svg ")[2].replace(_INK, "currentColor")
    return BLOCKS.plot(title, Html(drawing))
