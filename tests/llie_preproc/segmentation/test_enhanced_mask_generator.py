"""``EnhancedSamAutomaticMaskGenerator`` gives masks in the raw frame; with Identity they are SAM's own."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from segment_anything import SamAutomaticMaskGenerator

from llie_preproc.enhancers import GammaCorrection, Upscale
from llie_preproc.segmentation import EnhancedSamAutomaticMaskGenerator
from tests.support.sam_models import BrightnessSam, picture, tiny_sam

ALL = dict(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)


def assert_equal_records(own, expected) -> None:
    assert len(own) == len(expected) > 0
    for mine, theirs in zip(own, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key])


@pytest.mark.parametrize("parameters", [{}, dict(crop_n_layers=1, crop_n_points_downscale_factor=2)])
def test_identity_gives_sams_own_masks(parameters):
    sam, image = tiny_sam(), picture(1, 50, 64)
    expected = SamAutomaticMaskGenerator(sam, **ALL, **parameters).generate(image)
    assert_equal_records(EnhancedSamAutomaticMaskGenerator(sam, **ALL, **parameters).generate(image), expected)


def test_sam_sees_crops_of_the_picture_enhanced_as_a_whole():
    sam, image = tiny_sam(), picture(2, 50, 64)
    own = EnhancedSamAutomaticMaskGenerator(sam, GammaCorrection(gamma=0.4), crop_n_layers=1, **ALL)
    enhanced = own.predictor.enhance(image)
    expected = SamAutomaticMaskGenerator(sam, crop_n_layers=1, **ALL).generate(enhanced.pixels)
    assert_equal_records(own.generate(image), expected)
    assert_equal_records(own.generate(enhanced), expected)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("oversize", ["resize", "crops"])
def test_records_are_in_the_raw_frame(scale, oversize):
    image = np.zeros((48, 64, 3), np.uint8)
    image[11:30, 20:45] = 255
    sam = BrightnessSam(side=64)
    parameters = dict(points_per_side=8, pred_iou_thresh=-2.0, stability_score_thresh=0.0, stability_score_offset=0.1)
    generator = EnhancedSamAutomaticMaskGenerator(sam, Upscale(scale, "nearest"), oversize=oversize, **parameters)
    records = generator.generate(image)
    truth = image[..., 0] > 0
    found = [record for record in records if np.array_equal(record["segmentation"], truth)]
    assert len(found) == 1
    assert found[0]["area"] == truth.sum()
    # SAM's own boxes end at the last pixel.
    assert found[0]["bbox"] == [20, 11, 24, 18]
    for record in records:
        x, y, width, height = record["crop_box"]
        assert 0 <= x <= x + width <= 64
        assert 0 <= y <= y + height <= 48
        if (width, height) == (64, 48):
            (point,) = record["point_coords"]
            assert point in [[8 * i + 4, 6 * j + 3] for i in range(8) for j in range(8)]
    assert (len({tuple(record["crop_box"]) for record in records}) > 1) <= (oversize == "crops" and scale > 1)


def test_crops_show_sam_the_enhanced_picture_at_full_size():
    """There are as many layers as needed, so that the last one's crops are not shrunk."""
    sam = BrightnessSam(side=64)
    image = np.full((70, 100, 3), 200, np.uint8)
    sizes: list[tuple[int, int]] = []
    encode = EnhancedSamAutomaticMaskGenerator(sam, Upscale(2, "nearest"), oversize="crops", **ALL)
    original = encode.predictor._encode
    encode.predictor._encode = lambda seen: (sizes.append(seen.pixels.shape[:2]), original(seen))[1]
    encode.generate(image)
    assert sizes[0] == (140, 200)
    assert max(sizes[-1]) <= 64
    assert encode.crop_n_layers == 3


@pytest.mark.parametrize(("shape", "least_iou", "found"), [((64, 100), 2.0, False), ((9, 300), 0.0, True)])
def test_crops_without_a_mask_or_beside_the_picture_are_no_error(shape, least_iou, found):
    """SAM's own generator raises in both cases: no crop has a mask, or a crop of a narrow picture lies beside it."""
    options = dict(oversize="crops", points_per_side=2, pred_iou_thresh=least_iou, stability_score_thresh=0.0)
    generator = EnhancedSamAutomaticMaskGenerator(BrightnessSam(side=64), **options)
    records = generator.generate(np.full((*shape, 3), 200, np.uint8))
    assert bool(records) == found
    assert any(record["area"] == np.prod(shape) for record in records) == found


def test_masks_without_small_regions_are_run_length_encoded():
    sam, image = tiny_sam(), picture(3, 40, 64)
    options = dict(ALL, output_mode="coco_rle", min_mask_region_area=20)
    records = EnhancedSamAutomaticMaskGenerator(sam, Upscale(2, "nearest"), **options).generate(image)
    assert records
    for record in records:
        assert record["segmentation"]["size"] == [40, 64]
        assert mask_utils.area(record["segmentation"]) == record["area"]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        (dict(oversize="shrink"), "oversize"),
        (dict(oversize="crops", crop_n_layers=1), "crop_n_layers"),
        (dict(oversize="crops", points_per_side=None, point_grids=[np.full((1, 2), 0.5)]), "point_grids"),
    ],
)
def test_wrong_options_are_refused(parameters, named):
    with pytest.raises(ValueError, match=named):
        EnhancedSamAutomaticMaskGenerator(tiny_sam(), **parameters)


def test_a_wrong_picture_is_refused():
    with pytest.raises(TypeError, match="uint8"):
        EnhancedSamAutomaticMaskGenerator(tiny_sam()).generate(np.zeros((9, 9, 3)))
