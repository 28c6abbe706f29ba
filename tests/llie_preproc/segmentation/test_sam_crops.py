"""``oversize="crops"`` gives masks of a large image that are exact to the pixel; prompts of a batch are independent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llie_preproc.enhancers import Upscale
from llie_preproc.segmentation import (
    EnhancedSamPredictor,
)
from tests.support.sam_models import (
    ROUNDING,
    BrightnessSam,
    assert_equal_but_for_rounding,
    in_float64,
    picture,
    tiny_sam,
)
from tests.support.sam_prompts import all_prompts, assert_equal_results


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(70, 200), st.integers(40, 200)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    extent=st.tuples(st.integers(9, 60), st.integers(9, 60)),
    ratio=st.floats(0.1, 0.45),
)
def test_crops_give_masks_that_are_exact_to_the_pixel(size, corner, extent, ratio):
    """The image is larger than SAM's input."""
    image = np.zeros((*size, 3), np.uint8)
    y, x = (4 + int(share * max(0, n - e - 8)) for share, n, e in zip(corner, size, extent, strict=True))
    image[y : y + extent[0], x : x + extent[1]] = 255
    truth = image[..., 0] > 0
    sam = BrightnessSam(side=64)
    predictor = EnhancedSamPredictor(sam, oversize="crops", crop_overlap_ratio=ratio)
    predictor.set_image(image)
    box = np.array([x, y, x + extent[1], y + extent[0]])
    masks, iou, _ = predictor.predict(box=box, multimask_output=True)
    np.testing.assert_array_equal(masks[0], truth)
    assert iou.shape == (3,)
    assert np.isfinite(iou).all()


def test_a_crop_is_encoded_once_and_only_at_the_border_of_a_mask():
    image = np.zeros((256, 256, 3), np.uint8)
    image[10:30, 12:40] = 255
    sam = BrightnessSam(side=64)
    predictor = EnhancedSamPredictor(sam, oversize="crops")
    predictor.set_image(image)
    assert sam.image_encoder.calls == 1
    predictor.predict(box=np.array([12, 10, 40, 30]), multimask_output=False)
    assert sam.image_encoder.calls == 2
    predictor.predict(box=np.array([12, 10, 40, 30]), multimask_output=False)
    assert sam.image_encoder.calls == 2


def test_crops_of_a_small_image_equal_the_whole():
    sam, image = tiny_sam(), picture(4, 32, 30)
    results = []
    for oversize in ("resize", "crops"):
        predictor = EnhancedSamPredictor(sam, Upscale(2, "nearest"), oversize=oversize)
        predictor.set_image(image)
        results.append(predictor.predict(**all_prompts(32, 30)["all"]))
    assert_equal_results(*results)


@pytest.mark.parametrize("name", ["points", "box", "mask", "all"])
def test_crops_take_every_prompt_of_a_real_sam(name):
    sam, image = tiny_sam(), picture(5, 90, 140)
    whole, crops = (EnhancedSamPredictor(sam, oversize=oversize) for oversize in ("resize", "crops"))
    for predictor in (whole, crops):
        predictor.set_image(image)
    prompts = all_prompts(90, 140)[name]
    coarse, fine = whole.predict(**prompts, return_logits=True), crops.predict(**prompts, return_logits=True)
    assert fine[0].shape == coarse[0].shape
    assert np.isfinite(fine[0]).all()
    assert np.isfinite(fine[1]).all()
    assert not np.array_equal(fine[0], coarse[0])
    np.testing.assert_array_equal(fine[2], coarse[2])


def batched_prompts(predictor, shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two points and a box for each of three masks."""
    points = torch.tensor([[[20.0, 30], [70, 35]], [[100, 10], [139, 39]], [[3, 3], [60, 20]]])
    boxes = torch.tensor([[10.0, 10, 60, 39], [70, 2, 139, 30], [0, 0, 100, 39]])
    return (
        predictor.transform.apply_coords_torch(points, shape),
        torch.tensor([[1, 0], [1, 1], [1, 0]]),
        predictor.transform.apply_boxes_torch(boxes, shape),
    )


# With crops the network runs twice for an answer: the mask found in the whole picture is a prompt for the crops.
PASSES = {"resize": 1, "crops": 2}


@pytest.mark.parametrize("oversize", PASSES)
@pytest.mark.parametrize("seed", range(3))
def test_a_tiny_sam_rounds_no_more_than_assumed(oversize, seed):
    """float32 differs from float64 by at most :data:`ROUNDING`, from which other tests take their tolerances."""
    shape, answers = (40, 140), []
    for sam in (tiny_sam(seed), in_float64(tiny_sam(seed))):
        predictor = EnhancedSamPredictor(sam, oversize=oversize)
        predictor.set_image(picture(5, *shape))
        answers.append(predictor.predict_torch(*batched_prompts(predictor, shape), return_logits=True))
    for single, double in zip(*answers, strict=True):
        assert double.dtype == torch.float64
        # Masks of the same prompt differ by far more than the rounding, so that agreement means something.
        assert (double[0] - double[1]).abs().max() > 20 * PASSES[oversize] * ROUNDING * double.abs().max()
        assert_equal_but_for_rounding(single.double(), double, PASSES[oversize] * ROUNDING)


@pytest.mark.parametrize("oversize", PASSES)
@pytest.mark.parametrize("precise", [False, True])
def test_each_prompt_of_a_batch_has_the_answer_that_it_has_alone(oversize, precise):
    """The picture is only 40 pixels high, so that SAM pads its crops; in float64 no rounding can hide a difference."""
    sam, shape = in_float64(tiny_sam()) if precise else tiny_sam(), (40, 140)
    predictor = EnhancedSamPredictor(sam, oversize=oversize)
    predictor.set_image(picture(5, *shape))
    prompts = batched_prompts(predictor, shape)
    together = predictor.predict_torch(*prompts, return_logits=True)
    unit = torch.finfo(together[0].dtype).eps / torch.finfo(torch.float32).eps
    for index in range(3):
        alone = predictor.predict_torch(*(each[index : index + 1] for each in prompts), return_logits=True)
        for several, one in zip(together, alone, strict=True):
            assert_equal_but_for_rounding(several[index], one[0], PASSES[oversize] * ROUNDING * unit)


@pytest.mark.examples(1)
@pytest.mark.parametrize("given", ["points", "all"])
def test_answers_from_crops_change_continuously(given):
    """A rounding must not change a mask, neither through the choice of crops nor through the box of their prompt.

    The threshold is put just below and just above the largest or smallest logit of some rows and columns. Between the
    two, the mask ``logits > threshold`` changes, but the answers must change by about as little as the threshold.
    """
    sam, shape, hair = in_float64(tiny_sam()), (40, 140), 1e-9
    whole, predictor = (EnhancedSamPredictor(sam, oversize=oversize) for oversize in ("resize", "crops"))
    for each in (whole, predictor):
        each.set_image(picture(5, *shape))
    points, labels, boxes = batched_prompts(predictor, shape)
    prompts = (points[:1], labels[:1], boxes[:1] if given == "all" else None)
    arguments = dict(multimask_output=False, return_logits=True)
    found = whole.predict_torch(*prompts, **arguments)[0][0, 0]
    extremes = torch.cat([edge for axis in (0, 1) for edge in (found.amax(axis), found.amin(axis))]).unique()
    assert len(extremes) > 50
    for threshold in extremes[:: len(extremes) // 20].tolist():
        answers = []
        for side in (-1, 1):
            sam.mask_threshold = threshold + side * hair
            answers.append(predictor.predict_torch(*prompts, **arguments))
        for below, above in zip(*answers, strict=True):
            # A box moves by up to a crop's 64 pixels per logit, and an embedding oscillates a few times in a crop.
            assert (below - above).abs().max() <= 1e4 * hair * above.abs().max()
