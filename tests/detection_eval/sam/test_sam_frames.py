"""``llie sam`` gives masks in the size of the raw picture, even if the enhanced picture or the reference is larger."""

import json

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from llie_preproc.pictures import Picture, write_picture
from tests.support.sam_pictures import BOXES, FAST, SIZE, draw_rectangles, read_scores


@pytest.mark.examples(1)
@pytest.mark.parametrize("oversize", ["resize", "crops"])
def test_masks_of_enlarged_pictures_have_the_size_of_the_raw_picture(sam, pictures, texts, encoded, tmp_path, oversize):
    """Pictures of 64 pixels become 128, which is the side of SAM's input, and 256."""
    out, labels = tmp_path / "out", []
    for scale in (2, 4):
        (tmp_path / f"x{scale}.py").write_text(f"enhancer = dict(type='Upscale', scale={scale}, mode='nearest')")
        labels.append(f"x{scale}={tmp_path / f'x{scale}.py'}")
    given = ("--reference", pictures, "--boxes", texts, "--limit", 1, "--oversize", oversize, *FAST)
    assert sam(pictures, out, *given, "--enhancer", *labels)[0] == 0
    # With crops, SAM sees x4 in parts, so only the score of x2 is compared.
    assert read_scores(out)[1]["x2"]["mean_iou"] > 0.5
    for label in ("x2", "x4"):
        for task in ("automatic", "boxes"):
            masks = json.loads((out / "masks" / task / f"{label}.json").read_text())
            assert {tuple(each["segmentation"]["size"]) for each in masks} == {SIZE}
    # SAM encodes the reference once and each enhanced picture twice, for automatic masks and prompts; x4 adds crops.
    assert len(encoded) == 5 + (4 + 16 if oversize == "crops" else 0)


@pytest.mark.parametrize("scale", [2, 3])
def test_masks_of_larger_references_have_the_size_of_the_raw_picture(sam, pictures, encoded, tmp_path, scale):
    for number, name in enumerate(BOXES):
        draw_rectangles(tmp_path / "large" / f"{name}.png", number, repeat=scale)
    out = tmp_path / "out"
    assert sam(pictures, out, "--reference", tmp_path / "large", "--limit", 2, *FAST)[0] == 0
    _, rows = read_scores(out)
    # The masks differ a little, because SAM's resizing blurs the larger reference less.
    assert rows["none"]["mean_iou"] > 0.6
    reference = json.loads((out / "masks" / "automatic.json").read_text())
    assert {tuple(each["segmentation"]["size"]) for each in reference["annotations"]} == {SIZE}


def test_a_reference_of_another_size_and_a_missing_one_are_named(sam, pictures, tmp_path):
    references = tmp_path / "references"
    draw_rectangles(references / "a.png", 0)
    write_picture(references / "b.png", Picture(np.zeros((48, 100, 3), np.uint8)))
    code, printed, err = sam(pictures, tmp_path / "out", "--reference", references, *FAST)
    assert code == 1
    assert "2 left out" in err
    assert "has 100x48 pixels, expected the picture's 64x48" in err
    assert "sub/c.png: there is no reference" in err
    assert "- pictures: 1\n" in printed
    assert "b.png" in (tmp_path / "out" / "report.html").read_text()
