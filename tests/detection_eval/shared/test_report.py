"""Pieces of a report: parsed back from the HTML that they write."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="needs the extra 'demo'")

from detection_eval.shared import html_page

_NASTY = "<script>alert('1')</script> & \"quoted\""


class _Page(HTMLParser):
    """Tags with attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def _decoded(source: str) -> np.ndarray:
    head, data = source.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def ramp():
    return np.linspace(0, 255, 60 * 90 * 3).reshape(60, 90, 3).astype(np.uint8)


def _full_page(path, image):
    sections = [
        html_page.section(
            _NASTY, html_page.paragraph(_NASTY), html_page.table(["a", _NASTY], [[_NASTY, "1.5"]], _NASTY)
        ),
        html_page.section("pictures", html_page.gallery([html_page.Panel(image, _NASTY, _NASTY)], columns=2)),
        html_page.section("plots", html_page.line_plot({_NASTY: {0.1: 0.5, 8: 1.0}}, _NASTY, "x", "y", log_x=True)),
    ]
    html_page.write_report(path, _NASTY, _NASTY, sections, {_NASTY: _NASTY})
    return path.read_text(encoding="utf-8")


def test_text_is_text_wherever_it_stands(tmp_path, ramp):
    page = _Page(_full_page(tmp_path / "r.html", ramp))
    assert not page.all("script")
    assert page.text.count("alert('1')") >= 8
    assert page.all("img")[0]["alt"] == _NASTY


def test_the_page_needs_no_other_file_and_no_network(tmp_path, ramp):
    page = _Page(_full_page(tmp_path / "r.html", ramp))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("xlink:href", attributes.get("href", "#")).startswith("#")
    assert {"charset": "utf-8"} in page.all("meta")
    assert page.all("html") == [{"lang": "en"}]


def test_the_same_content_gives_the_same_bytes(tmp_path, ramp):
    assert _full_page(tmp_path / "a.html", ramp) == _full_page(tmp_path / "b.html", ramp)


@pytest.mark.parametrize(
    ("shape", "expected"), [((60, 90, 3), (60, 90)), ((300, 600, 3), (50, 100)), ((7, 900, 3), (1, 100))]
)
def test_pictures_are_shrunk_to_the_side_and_never_enlarged(shape, expected):
    image = np.full(shape, 200, np.uint8)
    page = _Page(html_page.gallery([html_page.Panel(image, "c", "a")], columns=1, max_side=100))
    (attributes,) = page.all("img")
    decoded = _decoded(attributes["src"])
    assert decoded.shape == (*expected, 3)
    assert (attributes["height"], attributes["width"]) == tuple(str(n) for n in expected)
    np.testing.assert_allclose(decoded, 200, atol=3)


def test_deep_and_float_pictures_look_the_same():
    level = np.full((20, 20, 3), 0.4)
    pictures = [(level * 255).astype(np.uint8), (level * 65535).astype(np.uint16), level.astype(np.float32)]
    for image in pictures:
        np.testing.assert_allclose(html_page.draw(image, (), 20), 102, atol=1)


def test_boxes_are_drawn_where_they_are_after_shrinking():
    image = np.zeros((200, 400, 3), np.uint8)
    before = image.copy()
    overlay = html_page.Overlay(np.array([[40, 80, 320, 160]]), ["cat"], "#ff0000")
    drawn = html_page.draw(image, [overlay], max_side=200)
    np.testing.assert_array_equal(image, before)
    red = (drawn == [255, 0, 0]).all(axis=2)
    rows, columns = np.flatnonzero(red[60:].any(axis=1)) + 60, np.flatnonzero(red.any(axis=0))
    assert abs(rows[-1] - 80) <= 1
    assert abs(columns[0] - 20) <= 1
    assert abs(columns[-1] - 160) <= 1
    assert not drawn[50:70, 40:140].any()


def test_a_label_at_the_border_stays_inside():
    overlay = html_page.Overlay(np.array([[-5, -5, 30, 30], [95, 90, 140, 140]]), ["motorcycle 0.99", "cup"])
    drawn = html_page.draw(np.zeros((100, 100, 3), np.uint8), [overlay], 100)
    bright = drawn[..., 0] > 150
    assert bright[:20].any()
    assert bright[70:92, 70:].any()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"3 cells.*2"):
        html_page.table(["a", "b"], [["1", "2", "3"]], "c")


def test_table_cells_keep_their_order():
    page = _Page(html_page.table(["g", "raw"], [["0.1", "0.23"], ["0.2", "0.73"]], "share"))
    assert page.text == "sharegraw0.10.230.20.73"
    assert [a["scope"] for a in page.all("th")] == ["col", "col", "row", "row"]


def _svg(block: str) -> ET.Element:
    return ET.fromstring(block[block.index("<svg") : block.index("</svg>") + 6])  # noqa: S314


def test_plots_are_well_formed_take_the_pages_colour_and_have_a_name():
    series = {"raw": {0.1: 0.2, 1.0: 1.0, 8.0: 0.5}, "enhanced": {0.1: 0.9, 1.0: 0.95, 8.0: 0.6}}
    for block in (
        html_page.line_plot(series, "retention", "gamma", "share", log_x=True, y_range=(0, 1)),
        html_page.bar_plot({"raw": {"AP": 12.5}, "enhanced": {"AP": 30.5}}, "precision", "AP in %"),
    ):
        svg = _svg(block)
        assert svg.get("role") == "img"
        assert svg.get("aria-label") in ("retention", "precision")
        assert html_page._INK not in block
        assert "currentColor" in block
        texts = {e.text for e in svg.iter() if e.tag.endswith("text")}
        assert {"raw", "enhanced"} <= texts
        assert texts & {"12.5", "0.1"}


def test_many_lines_are_all_drawn_and_told_apart_without_colour():
    series = {f"row {i}": {x / 100: 1 - x / 100 for x in range(101)} for i in range(9)}
    svg = _svg(html_page.line_plot(series, "t", "recall", "precision", marks=8))
    texts = {e.text for e in svg.iter() if e.tag.endswith("text")}
    assert set(series) <= texts
    styles = [e.get("style", "") for e in svg.iter() if e.tag.endswith("path")]
    lines = [style for style in styles if any(f"stroke: {colour}" in style for colour in html_page.COLOURS)]
    dashes = {re.sub(r"#\w+", "", style) for style in lines}
    assert len(dashes) >= 4


def _bars(block):
    """Of each panel: its title, and the width of each bar with the text beside it."""
    panels = []
    for svg in (ET.fromstring(part[: part.index("</svg>") + 6]) for part in _svgs(block)):  # noqa: S314
        paths = [e for e in svg.iter() if e.tag.endswith("path") and "fill: #" in e.get("style", "")]
        widths = {}
        for path in paths:
            colour = re.search(r"fill: (#\w+)", path.get("style")).group(1)
            if colour in html_page.COLOURS:
                xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.get("d"))]
                widths[html_page.COLOURS.index(colour)] = max(xs) - min(xs)
        panels.append((svg.get("aria-label"), widths, [e.text for e in svg.iter() if e.tag.endswith("text")]))
    return panels


def _svgs(block):
    return ["<svg" + part for part in block.split("<svg")[1:]]


def test_bar_panels_share_one_axis_and_name_every_bar():
    values = {"raw": {"car": 20.0, "<b>": 40.0}, "enhanced": {"car": 10.0, "<b>": math.nan}}
    block = html_page.bar_panels(values, "AP in %", {"raw": {"car": (15.0, 25.0)}})
    assert "<b>" not in block
    (first, widths, texts), (second, other, others) = _bars(block)
    assert (first, second) == ("car", "<b>")
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3)
    assert other[0] == pytest.approx(2 * widths[0], rel=1e-3)
    assert other.get(1, 0) == 0
    assert {"raw", "enhanced", "20.0", "10.0"} <= set(texts)
    assert {"raw", "enhanced", "40.0", "–"} <= set(others)


def test_bar_panels_of_nothing_but_absent_values_are_dashes():
    ((_, widths, texts),) = _bars(
        html_page.bar_panels({"raw": {"large": math.nan}}, "AP", {"raw": {"large": (0.1, 0.2)}})
    )
    assert not any(widths.values())
    assert texts.count("–") == 1


def test_more_series_than_colours_are_drawn():
    values = {f"row {i}": {"AP": float(i)} for i in range(len(html_page.COLOURS) + 2)}
    for block in (html_page.bar_plot(values, "t", "y"), html_page.bar_panels(values, "x")):
        texts = {e.text for e in _svg(block).iter() if e.tag.endswith("text")}
        assert set(values) <= texts


def _linear(colour):
    levels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _luminance(colour):
    return _linear(colour) @ [0.2126, 0.7152, 0.0722]


def test_colours_stand_out_on_a_light_and_a_dark_page():
    """WCAG's contrast with the cards of both."""
    assert len(set(html_page.COLOURS)) >= 9
    for colour in html_page.COLOURS:
        for page in ("#ffffff", "#1d2126"):
            low, high = sorted((_luminance(colour), _luminance(page)))
            assert (high + 0.05) / (low + 0.05) > 2.2


# Machado, Oliveira, Fernandes 2009, severity 1, in linear RGB.
_NO_RED = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
_NO_GREEN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]


@pytest.mark.parametrize(("sight", "least"), [(np.eye(3), 35), (_NO_RED, 20), (_NO_GREEN, 20)])
def test_colours_are_told_apart_by_the_colour_blind(sight, least):
    """By the distance in CIE L*a*b*, where about 2 is just noticed."""
    seen = np.array([np.array(sight) @ _linear(colour) for colour in html_page.COLOURS]).clip(0, 1)
    lab = cv2.cvtColor(
        np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)[None].astype(np.float32),
        cv2.COLOR_RGB2LAB,
    )[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert apart[~np.eye(len(lab), dtype=bool)].min() > least


@pytest.mark.parametrize("dash", [2, 7])
def test_a_dashed_box_lies_where_the_solid_one_lies_and_has_gaps(dash):
    box = np.array([[20, 30, 120, 90]])
    canvas = np.zeros((120, 160, 3), np.uint8)
    solid = html_page.draw(canvas, [html_page.Overlay(box)], 160).any(axis=2)
    dashed = html_page.draw(canvas, [html_page.Overlay(box, dash=dash)], 160).any(axis=2)
    near = cv2.dilate(solid.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert not (dashed & ~near).any()
    assert 0.3 < dashed.sum() / solid.sum() < 0.95
    for row, column in ((30, 20), (30, 120), (90, 20), (90, 120)):
        assert dashed[row, column]


def test_a_dashed_box_of_no_size_is_drawn():
    drawn = html_page.draw(np.zeros((9, 9, 3), np.uint8), [html_page.Overlay(np.array([[4, 4, 4, 4]]), dash=7)], 9)
    assert drawn.any()


def test_headings_and_lists_are_text():
    block = html_page.heading(_NASTY) + html_page.bullets([_NASTY, "second"])
    page = _Page(block)
    assert not page.all("script")
    assert page.text == _NASTY + _NASTY + "second"
    assert len(page.all("li")) == 2


def test_the_log_axis_is_marked_at_the_points_alone():
    svg = _svg(html_page.line_plot({"a": {0.1: 0, 1.0: 1, 8.0: 0}}, "t", "gamma", "share", log_x=True))
    marks = {e.text for e in svg.iter() if e.tag.endswith("text")}
    assert {"0.1", "1", "8"} <= marks
    assert "$\\mathdefault{10^{0}}$" not in marks


def test_masks_are_laid_over_the_picture_and_small_ones_stay_visible():
    image = np.full((40, 60, 3), 100, np.uint8)
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 10:20, 10:20] = masks[1, 5:35, 5:50] = True
    painted = html_page.paint_masks(image, masks, ["#ff0000", "#0000ff"], alpha=0.5, outline=1)
    assert (image == 100).all()
    assert (painted[~masks.any(axis=0)] == 100).all()
    np.testing.assert_allclose(painted[25, 30], [50, 50, 178], atol=1)
    # Over the larger mask.
    np.testing.assert_allclose(painted[15, 15], [152, 25, 89], atol=1)
    np.testing.assert_array_equal(painted[10, 10:20], [[255, 0, 0]] * 10)
    np.testing.assert_array_equal(painted[5, 5:50], [[0, 0, 255]] * 45)
    np.testing.assert_array_equal(html_page.paint_masks(image, masks[:0], []), image)


def test_masks_at_the_border_and_without_outline():
    masks = np.ones((1, 6, 6), bool)
    outlined = html_page.paint_masks(np.zeros((6, 6, 3), np.uint8), masks, ["#646464"], alpha=0.5, outline=2)
    assert (outlined == 100).all(axis=2).sum() == 36 - 4
    plain = html_page.paint_masks(np.zeros((6, 6, 3), np.uint8), masks, ["#646464"], alpha=0.5, outline=0)
    assert (plain == 50).all()


def test_masks_that_do_not_fit_the_picture_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) with 1 colours for a picture of shape \(5, 4, 3\)"):
        html_page.paint_masks(np.zeros((5, 4, 3), np.uint8), np.ones((1, 4, 4), bool), ["#ffffff"])
    with pytest.raises(ValueError, match="with 2 colours"):
        html_page.paint_masks(np.zeros((4, 4, 3), np.uint8), np.ones((1, 4, 4), bool), ["#ffffff"] * 2)


def test_hues_are_different_colours_and_do_not_depend_on_their_number():
    colours = html_page.hues(60)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert len(set(colours)) == 60
    assert html_page.hues(9) == colours[:9]
