"""The section of a comparison's page that shows AP along an axis of light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..metrics.detection_table import metric_title
from ..shared.page.html_blocks import Html, captioned, heading, paragraph, section
from ..shared.page.svg_plots import line_plot
from .light_axis import LightAxis
from .tables import light_points, light_tables
from .verdict_sections import Row, headline

Points = Mapping[str, Mapping[float, Mapping[str, float | None]]]
"""Scores with their intervals, by series and light."""

_TITLES = {"scores": ("AP", "AP in %"), "difference": ("AP minus raw at the same light", "AP minus raw, points of %")}


def light_section(rows: Sequence[Row], axis: LightAxis, shown: float) -> Html:
    """Plot AP and its differences to raw along an axis of light, and write both as tables.

    Args:
        rows: Rows of ``results.json``, each of a light.
        axis: Axis of the comparison.
        shown: Light of the sections that show pictures or parts of the test set.
    """
    metric = headline(rows[0]["scores"])
    blocks = [
        paragraph(
            f"{axis.description} The bands are 95 % intervals. Those of the differences are paired by picture: where a "
            "band holds 0, this test set cannot tell the row from raw."
        )
    ]
    for part, (title, label) in _TITLES.items():
        if points := light_points(rows, metric, part):
            lines, bands = _percent(points, "value"), _bands(points)
            blocks.append(line_plot(lines, title, axis.title, label, log_x=axis.logarithmic, bands=bands))
    for table in light_tables(rows, axis, metric):
        blocks.append(captioned(table, f"{metric_title(metric)}: {table[0][0]}, by {axis.title}, 95 % intervals"))
    blocks += [
        heading("The sections below"),
        paragraph(
            f"They are about the test set at {axis.words(shown)}, which is farthest from the pictures as they are."
        ),
    ]
    return section("Average precision by light", *blocks)


def _percent(points: Points, bound: str) -> dict[str, dict[float, float]]:
    """Convert a bound of the scores to percent, by series and light in rising order; NaN where it is not defined."""
    return {
        name: {light: math.nan if (value := of[light][bound]) is None else 100 * value for light in sorted(of)}
        for name, of in points.items()
    }


def _bands(points: Points) -> dict[str, dict[float, tuple[float, float]]]:
    lows, highs = _percent(points, "low"), _percent(points, "high")
    return {name: {light: (low, highs[name][light]) for light, low in of.items()} for name, of in lows.items()}
