"""``svg_plots.py`` draws plots as SVG; the tests parse it, and find the lines, bars and texts."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'compare'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")

from detection_eval.shared.page.palette import COLOURS
from detection_eval.shared.page.svg_plots import _INK, bar_panels, line_plot, standalone_svg


def _svg(block: str) -> ET.Element:
    return ET.fromstring(block[block.index("<svg") : block.index("</svg>") + 6])  # noqa: S314


def test_plots_are_well_formed_named_and_in_the_colour_of_the_page():
    series = {"raw": {0.1: 0.2, 1.0: 1.0, 8.0: 0.5}, "enhanced": {0.1: 0.9, 1.0: 0.95, 8.0: 0.6}}
    for block in (
        line_plot(series, "retention", "gamma", "share", log_x=True, y_range=(0, 1)),
        bar_panels({"raw": {"precision": 12.5}, "enhanced": {"precision": 30.5}}, "AP in %"),
    ):
        svg = _svg(block)
        assert svg.get("role") == "img"
        assert svg.get("aria-label") in ("retention", "precision")
        assert _INK not in block
        assert "currentColor" in block
        texts = {e.text for e in svg.iter() if e.tag.endswith("text")}
        assert {"raw", "enhanced"} <= texts
        assert texts & {"12.5", "0.1"}


def test_many_lines_are_all_drawn_with_different_dashes():
    series = {f"row {i}": {x / 100: 1 - x / 100 for x in range(101)} for i in range(9)}
    svg = _svg(line_plot(series, "t", "recall", "precision", marks=8))
    texts = {e.text for e in svg.iter() if e.tag.endswith("text")}
    assert set(series) <= texts
    styles = [e.get("style", "") for e in svg.iter() if e.tag.endswith("path")]
    lines = [style for style in styles if any(f"stroke: {colour}" in style for colour in COLOURS)]
    dashes = {re.sub(r"#\w+", "", style) for style in lines}
    assert len(dashes) >= 4


def _bars(block):
    """The title, the widths of the bars by colour, and the texts of each panel."""
    panels = []
    for svg in (ET.fromstring(part[: part.index("</svg>") + 6]) for part in _svgs(block)):  # noqa: S314
        paths = [e for e in svg.iter() if e.tag.endswith("path") and "fill: #" in e.get("style", "")]
        widths = {}
        for path in paths:
            colour = re.search(r"fill: (#\w+)", path.get("style")).group(1)
            if colour in COLOURS:
                xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.get("d"))]
                widths[COLOURS.index(colour)] = max(xs) - min(xs)
        panels.append((svg.get("aria-label"), widths, [e.text for e in svg.iter() if e.tag.endswith("text")]))
    return panels


def _svgs(block):
    return ["<svg" + part for part in str(block).split("<svg")[1:]]


def test_bar_panels_share_one_axis_and_name_every_bar():
    values = {"raw": {"car": 20.0, "<b>": 40.0}, "enhanced": {"car": 10.0, "<b>": math.nan}}
    block = bar_panels(values, "AP in %", {"raw": {"car": (15.0, 25.0)}})
    assert "<b>" not in block
    (first, widths, texts), (second, other, others) = _bars(block)
    assert (first, second) == ("car", "<b>")
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3)
    assert other[0] == pytest.approx(2 * widths[0], rel=1e-3)
    assert other.get(1, 0) == 0
    assert {"raw", "enhanced", "20.0", "10.0"} <= set(texts)
    assert {"raw", "enhanced", "40.0", "–"} <= set(others)


def test_a_panel_without_values_has_a_dash():
    ((_, widths, texts),) = _bars(bar_panels({"raw": {"large": math.nan}}, "AP", {"raw": {"large": (0.1, 0.2)}}))
    assert not any(widths.values())
    assert texts.count("–") == 1


def test_more_series_than_colours_are_drawn():
    values = {f"row {i}": {"AP": float(i)} for i in range(len(COLOURS) + 2)}
    texts = {e.text for e in _svg(bar_panels(values, "x")).iter() if e.tag.endswith("text")}
    assert set(values) <= texts


def test_a_logarithmic_axis_has_ticks_at_the_points_only():
    svg = _svg(line_plot({"a": {0.1: 0, 1.0: 1, 8.0: 0}}, "t", "gamma", "share", log_x=True))
    marks = {e.text for e in svg.iter() if e.tag.endswith("text")}
    assert {"0.1", "1", "8"} <= marks
    assert "$\\mathdefault{10^{0}}$" not in marks


def test_a_plot_can_be_a_separate_file():
    title = '<b>0 & 1</b> > "both"'
    drawing = ET.fromstring(standalone_svg(line_plot({"a": {0.1: 0, 1.0: 1}}, title, "x", "y")))  # noqa: S314
    assert drawing.tag.endswith("svg")
    assert drawing[0].tag == "title" or drawing[0].tag.endswith("}title")
    assert drawing[0].text == drawing.get("aria-label") == title
    assert "background:#fff" in drawing.get("style")
