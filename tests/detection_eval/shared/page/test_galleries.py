"""``galleries.py`` shrinks and embeds pictures, lays them out, and chooses which ones a page shows."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="needs the extra 'compare'")

from detection_eval.shared.page.galleries import Panel, chosen_pictures, gallery, pictures_section
from tests.support.pages import Page


def _decoded(source: str) -> np.ndarray:
    head, data = source.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize(
    ("shape", "expected"), [((60, 90, 3), (60, 90)), ((300, 600, 3), (50, 100)), ((7, 900, 3), (1, 100))]
)
def test_pictures_are_shrunk_to_the_side_and_never_enlarged(shape, expected):
    image = np.full(shape, 200, np.uint8)
    page = Page(gallery([Panel(image, "c", "a")], columns=1, max_side=100))
    (attributes,) = page.all("img")
    decoded = _decoded(attributes["src"])
    assert decoded.shape == (*expected, 3)
    assert (attributes["height"], attributes["width"]) == tuple(str(n) for n in expected)
    np.testing.assert_allclose(decoded, 200, atol=3)


@pytest.mark.parametrize(("pictures", "columns"), [(1, 2), (2, 2), (4, 4), (5, 3), (7, 4), (20, 4)])
def test_up_to_four_pictures_are_one_row_and_more_are_rows_of_three_or_four(pictures, columns):
    page = Page(gallery([Panel(np.zeros((4, 4, 3), np.uint8), "c", "a")] * pictures))
    assert page.all("div")[0]["style"] == f"--columns:{columns}"
    assert len(page.all("img")) == pictures


def test_pictures_with_most_objects_or_largest_changes_are_chosen():
    count, gain = dict(a=3, b=5, c=5, d=1), dict(a=1, b=0, c=-1, d=-2)
    assert chosen_pictures(count, "faces", gain, "faces") == {
        "b": "most faces",
        "a": "most faces gained over raw",
        "d": "most faces lost against raw",
    }
    assert chosen_pictures(count, "masks", {}, "iou") == {"b": "most masks"}


def test_each_picture_has_its_reason_and_its_galleries():
    panel = Panel(np.zeros((4, 4, 3), np.uint8), "caption", "alt")
    shown = {"<b>.png": "most faces", "c.png": "lost"}
    page = Page(pictures_section("Blue: faces.", shown, lambda name: [[panel] * len(name)] * 2, 480))
    assert len(page.all("h3")) == 2
    assert len(page.all("img")) == 2 * (len("<b>.png") + len("c.png"))
    assert page.sections["Pictures"].startswith("PicturesBlue: faces.<b>.png: most facescaption")
