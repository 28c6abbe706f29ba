"""``benchmarks.gallery`` makes the sheets of docs/gallery.md, which has every network that is shipped."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("skimage", reason="needs the extra 'demo'")
pytest.importorskip("benchmarks.gallery", reason="the benchmarks are found from the repository's root")

from skimage import data

from benchmarks.gallery import (
    COLUMNS,
    MARK,
    MOST_BYTES,
    PICTURES,
    SIDE,
    Shown,
    main,
    page_with_sheets,
    tiles,
    write_sheet,
)
from llie_preproc import FrozenEnhancer
from llie_preproc.pictures import picture_size, read_rgb8
from tests.support.places import ROOT

PAGE, IMAGES = ROOT / "docs" / "gallery.md", ROOT / "docs" / "images" / "gallery"
INDEX = json.loads((ROOT / "llie_preproc" / "weights" / "index.json").read_text(encoding="utf-8"))
EVERY_PICTURE = pytest.mark.parametrize("shown", PICTURES, ids=lambda shown: shown.photograph)


def _light(levels):
    """Linear light of sRGB levels, from its definition."""
    encoded = levels / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _columns(file):
    """The pictures of the first row of a sheet, without their titles and margins."""
    sheet = read_rgb8(file).astype(float)
    return [column[22:-6, 6:-6] for column in np.split(sheet, COLUMNS, axis=1)]


def test_the_command_writes_the_same_sheets_again(tmp_path, capsys):
    line = ["--pictures", "coins", "chelsea", "--enhancer", "none", "same=identity", "twice=upscale"]
    for run in ("first", "second"):
        main(["--out", str(tmp_path / run), *line])
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert sorted(files) == ["chelsea.jpg", "coins.jpg"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == files
    assert f"coins.jpg: {len(files['coins.jpg']):,} bytes" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "stops"), [("coins", -5), ("chelsea", -6)])
def test_a_sheet_has_the_photograph_the_dark_picture_and_the_results(tmp_path, name, stops):
    main(["--out", str(tmp_path), "--pictures", name, "--enhancer", "same=identity", "gammacorrection"])
    photograph, raw, same, brighter = _columns(tmp_path / f"{name}.jpg")
    height, width = getattr(data, name)().shape[:2]
    assert photograph.shape == (round(SIDE * height / width), SIDE, 3)
    assert math.log2(_light(raw).mean() / _light(photograph).mean()) == pytest.approx(stops, abs=0.2)
    # JPEG changes the dark noise by some levels.
    assert np.abs(same - raw).mean() < 3
    assert brighter.mean() > 1.5 * raw.mean()


def test_an_enlarged_result_is_shrunk_to_the_size_of_the_others():
    found = tiles(Shown("chelsea", -3, ""), {"twice": FrozenEnhancer("upscale", device="cpu")}, side=64)
    photograph, raw, result = found.values()
    assert list(found) == ["photograph", "raw, -3 EV", "twice, x2, shrunk"]
    assert photograph.shape == raw.shape == result.shape == (43, 64, 3)
    assert np.abs(result.astype(float) - raw).mean() < 0.05 * raw.mean() + 1


def test_at_0_ev_the_raw_picture_is_the_photograph():
    found = tiles(Shown("coffee", 0, ""), {}, side=64)
    assert list(found) == ["photograph", "raw, as it is"]
    np.testing.assert_array_equal(*found.values())


def test_a_file_is_small_enough_even_if_its_pixels_are_noise(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(256, size=(400, 600, 3), dtype=np.uint8)
    for name, pixels in (("noise", noise), ("even", np.full_like(noise, 90))):
        write_sheet(tmp_path / f"{name}.jpg", pixels)
        assert (tmp_path / f"{name}.jpg").stat().st_size <= MOST_BYTES
    assert "noise.jpg: " in (out := capsys.readouterr().out)
    assert out.endswith("at quality 92\n")


@pytest.mark.parametrize("name", INDEX)
def test_the_page_names_every_network_of_the_index(name):
    text = PAGE.read_text(encoding="utf-8")
    entry = INDEX[name]
    assert f"`{entry['enhancer']}@{name}` | `{entry['sha256'][:12]}` |" in text, "'make gallery' makes the page again"
    assert entry["licence"] in text


@EVERY_PICTURE
def test_the_page_shows_a_sheet_with_room_for_every_network(shown):
    assert f"](images/gallery/{shown.photograph}.jpg)" in PAGE.read_text(encoding="utf-8")
    file = IMAGES / f"{shown.photograph}.jpg"
    assert file.stat().st_size <= 200_000
    _, height = picture_size(file)
    rows = math.ceil((2 + len(INDEX)) / COLUMNS)
    shape = getattr(data, shown.photograph)().shape
    assert height == rows * (28 + round(SIDE * shape[0] / max(shape[:2])))


def test_the_page_and_its_sheets_are_small_and_complete():
    assert sorted(path.name for path in IMAGES.iterdir()) == sorted(f"{shown.photograph}.jpg" for shown in PICTURES)
    assert len({shown.photograph for shown in PICTURES}) == 8
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < 1_500_000
    assert page_with_sheets(PAGE, IMAGES) == PAGE.read_text(encoding="utf-8"), "'make gallery' makes the page again"


@EVERY_PICTURE
def test_the_licence_of_a_photograph_is_what_scikit_image_says(shown):
    said = " ".join(getattr(data, shown.photograph).__doc__.split()).lower()
    licence = shown.source.rsplit(". ", 1)[1].rstrip(".").lower()
    assert licence in ("cc0", "public domain", "no known copyright restrictions")
    assert licence in said


def test_a_page_keeps_what_is_above_the_mark(tmp_path):
    page = tmp_path / "pages" / "page.md"
    page.parent.mkdir()
    page.write_text(f"# Own words\n\n{MARK}old\n")
    text = page_with_sheets(page, tmp_path / "sheets")
    assert text.startswith(f"# Own words\n\n{MARK}\n## Networks\n")
    assert "old" not in text.splitlines()
    assert "](../sheets/coffee.jpg)" in text


def test_a_page_without_the_mark_is_refused_before_anything_is_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Own words\n")
    with pytest.raises(ValueError, match=r"page\.md: the line '<!-- `make gallery`.*is missing"):
        main(["--out", str(tmp_path / "sheets"), "--page", str(page)])
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("flags", [["--pictures", "coffee"], ["--enhancer", "psenet"]])
def test_a_page_has_all_pictures_and_the_shipped_weights_alone(tmp_path, flags):
    with pytest.raises(ValueError, match="leave --pictures and --enhancer out"):
        main(["--out", str(tmp_path), "--page", str(PAGE), *flags])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pictures", "stereo_motorcycle"], "invalid choice: 'stereo_motorcycle'"),
        (["--pictures", "coffee", "coffee"], "--pictures has 'coffee' twice"),
    ],
)
def test_pictures_that_are_not_in_the_gallery_are_refused(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *flags])
    assert message in capsys.readouterr().err
