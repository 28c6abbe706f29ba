"""Plots of a page: embedded SVG, with the font and the text colour of the page."""

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

# If there are more lines than this, a legend within the axes would hide some.
_LEGEND_WITHIN = 3

# matplotlib draws text and axes in this colour, which the text colour of the light or dark page then replaces.
_INK = "#010203"
_BAND: Any = dict(alpha=0.15, linewidth=0)
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
    bands: Mapping[str, Mapping[float, tuple[float, float]]] | None = None,
) -> Html:
    """Plot lines through points, one line for each named series.

    Args:
        series: Points of each line, y by x.
        title: Text above the plot.
        x_label: Name of the horizontal axis, with its unit.
        y_label: Name of the vertical axis, with its unit.
        log_x: Whether the horizontal axis is logarithmic; it is then labelled only at the points.
        y_range: Ends of the vertical axis; None to fit the data.
        marks: Approximate number of points of a line that get a marker; None for all of them.
        bands: Intervals of the points of some lines, drawn as bands in the colours of the lines.
    """
    # The legend of many lines stands below the axes, and the figure grows, so that the axes keep their height.
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
                # Lines that coincide get their markers at different places.
                markevery=(number * step // len(series), step),
                linestyle=_DASHES[number % len(_DASHES)] if marks else "-",
                label=name,
            )
            if band := (bands or {}).get(name):
                lows, highs = ([ends[side] for ends in band.values()] for side in (0, 1))
                axes.fill_between(list(band), lows, highs, color=COLOURS[number % len(COLOURS)], **_BAND)
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
    """Plot bars: a small plot for each group, with a named horizontal bar for each series.

    All plots share one axis from 0; a dash stands for a value that is NaN.

    Args:
        values: Values of at least 0, by series and group.
        x_label: Name of the axis, with its unit.
        ranges: Intervals of some values, drawn as whiskers.
        columns: Number of plots side by side if the page is wide enough.
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
    """Convert a plot to the text of a separate SVG file, black on white, with the title of the plot."""
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
        # The value next to the longest bar needs room.
        axes.set(xlabel=x_label, xlim=(0, 1.14 * top), ylim=(len(bars) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", **_GRID)
        axes.set_axisbelow(True)
        return _svg(figure, title)


def _svg(figure: Figure, title: str) -> Html:
    """Convert a figure to HTML; matplotlib has escaped the drawn texts."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue().partition("<svg ")[2].replace(_INK, "currentColor")
    return BLOCKS.plot(title, Html(drawing))
