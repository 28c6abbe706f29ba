"""``html_blocks.py`` writes the blocks of a page; the tests parse the HTML, and find the given texts."""

import configparser
from fnmatch import fnmatch

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra 'compare'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")

from detection_eval.shared.page import html_blocks
from detection_eval.shared.page.galleries import Panel, gallery
from detection_eval.shared.page.svg_plots import line_plot
from tests.support.pages import Page
from tests.support.places import ROOT

_NASTY = "<script>alert('1')</script> & \"quoted\""


@pytest.fixture
def ramp():
    return np.linspace(0, 255, 60 * 90 * 3).reshape(60, 90, 3).astype(np.uint8)


def _full_page(path, image):
    sections = [
        html_blocks.section(
            _NASTY, html_blocks.paragraph(_NASTY), html_blocks.table(["a", _NASTY], [[_NASTY, "1.5"]], _NASTY)
        ),
        html_blocks.section("pictures", gallery([Panel(image, _NASTY, _NASTY)], columns=2)),
        html_blocks.section("plots", line_plot({_NASTY: {0.1: 0.5, 8: 1.0}}, _NASTY, "x", "y", log_x=True)),
    ]
    html_blocks.write_report(path, _NASTY, _NASTY, sections, {_NASTY: _NASTY})
    return path.read_text(encoding="utf-8")


def test_markup_in_any_text_is_escaped(tmp_path, ramp):
    page = Page(_full_page(tmp_path / "r.html", ramp))
    assert not page.all("script")
    assert page.text.count("alert('1')") >= 8
    assert page.all("img")[0]["alt"] == _NASTY


def test_the_page_needs_no_other_file_and_no_network(tmp_path, ramp):
    page = Page(_full_page(tmp_path / "r.html", ramp))
    assert page.needs() == []
    assert {"charset": "utf-8"} in page.all("meta")
    assert page.all("html") == [{"lang": "en"}]


def test_the_same_content_gives_the_same_bytes(tmp_path, ramp):
    assert _full_page(tmp_path / "a.html", ramp) == _full_page(tmp_path / "b.html", ramp)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"3 cells.*2"):
        html_blocks.table(["a", "b"], [["1", "2", "3"]], "c")


def test_table_cells_keep_their_order():
    page = Page(html_blocks.table(["g", "raw"], [["0.1", "0.23"], ["0.2", "0.73"]], "share"))
    assert page.text == "sharegraw0.10.230.20.73"
    assert [a["scope"] for a in page.all("th")] == ["col", "col", "row", "row"]


def test_headings_and_lists_are_escaped():
    block = html_blocks.heading(_NASTY) + html_blocks.bullets([_NASTY, "second"])
    page = Page(block)
    assert not page.all("script")
    assert page.text == _NASTY + _NASTY + "second"
    assert len(page.all("li")) == 2


def test_a_captioned_table_has_an_empty_corner():
    page = Page(html_blocks.captioned([["found", "g = 1"], ["raw", "0.5"]], "found, 0 to 1"))
    assert page.table("found") == {"raw": {"g = 1": "0.5"}}
    assert page.tables["found, 0 to 1"][0][0] == ""


def test_the_first_of_many_left_out_pictures_are_named():
    page = Page("".join(html_blocks.left_out([f"{n}.png: {_NASTY}" for n in range(300)])))
    assert page.text.startswith("Left out300 pictures are in no row")
    assert 5 < len(page.all("li")) < 50
    assert f"0.png: {_NASTY}1.png" in page.text
    assert html_blocks.left_out([]) == []


def test_the_package_data_include_the_templates():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["detection_eval"].split(", ")
    package = ROOT / "detection_eval"
    templates = {path for path in (package / "shared/page").rglob("*.*") if path.suffix in (".html", ".css")}
    assert {path.name for path in templates} >= {"report.html", "report.css"}
    for path in templates:
        assert any(fnmatch(path.relative_to(package).as_posix(), pattern) for pattern in patterns)
