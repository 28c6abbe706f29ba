"""The section of a comparison's page that shows AP along an axis of light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.detection_table import metric_title
from ..shared.page.html_blocks import Html, captioned, heading, paragraph, section
from ..shared.page.svg_plots import line_plot
from ..shared.score_table import BOUNDS
from .comparison_store import RAW
from .light_axis import LightAxis
from .tables import light_points, light_tables
from .verdict_sections import Row, headline

Points = Mapping[str, Mapping[float, Mapping[str, Any]]]
"""Scores with their intervals, by series and light."""


def light_section(rows: Sequence[Row], axis: LightAxis, shown: float) -> Html:
    """Plot AP and its differences to raw along an axis of light, and write both as tables.

    Args:
        rows: Rows of ``results.json``, each of a light.
        axis: Axis of the comparison.
        shown: Light of the sections that show pictures or parts of the test set.
    """
    metric = headline(rows[0]["scores"])
    scores, gains = (light_points(rows, metric, part) for part in ("scores", "difference"))
    blocks = [
        paragraph(
            f"{axis.description} The bands are 95 % intervals. Those of the differences are paired by picture: where a "
            "band holds 0, this test set cannot tell the row from raw."
        ),
        _plot(scores, "AP", "AP in %", axis),
    ]
    if gains:
        # Raw is a line at 0, and a row has the same colour in both plots.
        zero: Points = {RAW: {light: dict.fromkeys(BOUNDS, 0.0) for light in scores.get(RAW, ())}}
        blocks.append(_plot({**zero, **gains}, "AP minus raw at the same light", "AP minus raw, points of %", axis))
    for table in light_tables(rows, axis, metric):
        blocks.append(captioned(table, f"{metric_title(metric)}: {table[0][0]}, by {axis.title}, 95 % intervals"))
    blocks += [
        heading("The sections below"),
        paragraph(
            f"The other sections are about the test set at {axis.words(shown)}, which changes the pictures most."
        ),
    ]
    return section("Average precision by light", *blocks)


def _plot(points: Points, title: str, label: str, axis: LightAxis) -> Html:
    low, value, high = (_percent(points, bound) for bound in ("low", "value", "high"))
    bands = {name: {light: (low[name][light], high[name][light]) for light in of} for name, of in value.items()}
    return line_plot(value, title, axis.title, label, log_x=axis.logarithmic, bands=bands)


def _percent(points: Points, bound: str) -> dict[str, dict[float, float]]:
    """Convert a bound of the scores to percent, by series and light in rising order; NaN where it is not defined."""
    return {
        name: {light: math.nan if (value := of[light][bound]) is None else 100 * value for light in sorted(of)}
        for name, of in points.items()
    }
