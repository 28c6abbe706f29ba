"""SAM behind an enhancer: nothing changes where the enhancer changes nothing, and frames map exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything import SamPredictor, sam_model_registry

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.enhancers import CLAHE, Enhancer, GammaCorrection, Identity, Upscale
from llie_preproc.enhancers.base import Capabilities
from llie_preproc.errors import CheckpointError
from llie_preproc.segmentation import (
    EnhancedImage,
    EnhancedSamPredictor,
    build_sam,
    decode_masks,
    sam_embeddings,
)
from tests.support.sam_models import (
    ROUNDING,
    TINY,
    BrightnessSam,
    assert_equal_but_for_rounding,
    in_float64,
    picture,
    tiny_sam,
)

SHAPES = [(48, 64), (61, 37), (100, 131)]


def all_prompts(height: int, width: int) -> dict[str, dict]:
    points = np.array([[width * 0.4, height * 0.3], [width * 0.9, height * 0.9]])
    box = np.array([width * 0.2, height * 0.1, width * 0.7, height * 0.6])
    mask = np.random.default_rng(0).normal(0, 5, (1, 32, 32)).astype(np.float32)
    return {
        "points": dict(point_coords=points, point_labels=np.array([1, 0])),
        "box": dict(box=box),
        "mask": dict(mask_input=mask),
        "all": dict(point_coords=points, point_labels=np.array([1, 0]), box=box, mask_input=mask),
    }


def assert_equal_results(own, expected) -> None:
    assert len(own) == len(expected) == 3
    for mine, theirs in zip(own, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("shape", "image_format", "with_grad"),
    [(SHAPES[0], "RGB", False), (SHAPES[1], "BGR", False), (SHAPES[2], "BGR", True), (SHAPES[1], "RGB", True)],
)
def test_identity_is_sam_predictor(shape, image_format, with_grad):
    sam, image = tiny_sam(), picture(1, *shape)
    plain, own = SamPredictor(sam), EnhancedSamPredictor(sam, "Identity", with_grad=with_grad)
    plain.set_image(image, image_format)
    own.set_image(image, image_format)
    assert isinstance(own, SamPredictor)
    assert own.device == plain.device
    assert (own.is_image_set, own.original_size, own.input_size) == (True, plain.original_size, plain.input_size)
    assert torch.equal(own.get_image_embedding(), plain.get_image_embedding())
    masks = []
    for prompts in all_prompts(*shape).values():
        for options in (dict(), dict(multimask_output=False), dict(return_logits=True)):
            expected = plain.predict(**prompts, **options)
            assert_equal_results(own.predict(**prompts, **options), expected)
            masks.append(expected[0] > 0)
    # The comparison would say little of masks that are all empty or full.
    assert 0.02 < np.mean([mask.mean() for mask in masks]) < 0.98
    own.reset_image()
    assert not own.is_image_set
    with pytest.raises(RuntimeError, match="set_image"):
        own.predict(box=np.array([0, 0, 5, 5]))


def test_identity_is_sam_predictor_for_transformed_images_and_batched_prompts():
    sam, image = tiny_sam(), picture(2, 50, 70)
    plain, own = SamPredictor(sam), EnhancedSamPredictor(sam, Identity())
    shown = torch.as_tensor(plain.transform.apply_image(image)).permute(2, 0, 1)[None]
    for predictor in (plain, own):
        predictor.set_torch_image(shown, image.shape[:2])
    assert torch.equal(own.features, plain.features)
    boxes = plain.transform.apply_boxes_torch(torch.tensor([[5.0, 6, 40, 30], [20, 10, 69, 49]]), image.shape[:2])
    arguments = (None, None, boxes)
    assert_equal_results(own.predict_torch(*arguments), plain.predict_torch(*arguments))


@pytest.mark.parametrize(("scale", "shape"), [(2, SHAPES[0]), (4, SHAPES[1]), (2, SHAPES[2])])
def test_an_enlarging_enhancer_asks_sam_the_same_of_the_enlarged_image(scale, shape):
    """Independent: SamPredictor on the enlarged picture, with prompts that many times as large."""
    sam, image = tiny_sam(), picture(3, *shape)
    plain, own = SamPredictor(sam), EnhancedSamPredictor(sam, Upscale(scale, "nearest"))
    plain.set_image(image.repeat(scale, 0).repeat(scale, 1))
    own.set_image(image)
    assert own.original_size == shape
    for prompts in all_prompts(*shape).values():
        larger = {key: value * scale if key in ("point_coords", "box") else value for key, value in prompts.items()}
        masks, iou, low_res = own.predict(**prompts, return_logits=True)
        _, expected_iou, expected_low_res = plain.predict(**larger)
        np.testing.assert_array_equal(low_res, expected_low_res)
        np.testing.assert_array_equal(iou, expected_iou)
        assert masks.shape[1:] == shape


rectangles = st.tuples(*[st.floats(0.0, 1.0)] * 4)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(24, 64), st.integers(24, 64)),
    places=rectangles,
    scale=st.sampled_from([1, 2, 4]),
    oversize=st.sampled_from(["resize", "crops"]),
    by=st.sampled_from(["point inside", "point outside", "box"]),
)
def test_masks_and_prompts_map_back_exactly(size, places, scale, oversize, by):
    """A rectangle on black, enlarged by repeating pixels: its mask in the raw frame is the rectangle, to the pixel."""
    height, width = size
    y1, y2 = _span(places[0], places[1], height)
    x1, x2 = _span(places[2], places[3], width)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    sam = BrightnessSam(side=64)
    predictor = EnhancedSamPredictor(sam, Upscale(scale, "nearest"), oversize=oversize)
    predictor.set_image(image)
    prompt = {
        "point inside": dict(point_coords=np.array([[(x1 + x2) / 2, (y1 + y2) / 2]]), point_labels=np.array([1])),
        "point outside": dict(point_coords=np.array([[1.0, 1.0]]), point_labels=np.array([1])),
        "box": dict(box=np.array([x1, y1, x2, y2])),
    }[by]
    masks, _, _ = predictor.predict(**prompt, multimask_output=False)
    expected = image[..., 0] > 0
    np.testing.assert_array_equal(masks[0], expected if by != "point outside" else ~expected)
    # In the input frame prompts are where they would be without an enhancer.
    points, boxes, _ = sam.prompt_encoder.asked[0]
    expected_prompt = predictor.transform.apply_coords(prompt.get("point_coords", np.zeros((1, 2))), size)
    if points is not None:
        np.testing.assert_allclose(points[0][0], expected_prompt, rtol=1e-6)
    else:
        np.testing.assert_allclose(boxes[0], predictor.transform.apply_boxes(prompt["box"], size)[0], rtol=1e-6)


def _span(a: float, b: float, length: int) -> tuple[int, int]:
    """At least six pixels, and three from each end."""
    start = 3 + int(min(a, b) * (length - 12))
    return start, min(length - 3, start + 6 + int(abs(a - b) * length))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(70, 200), st.integers(40, 200)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    extent=st.tuples(st.integers(9, 60), st.integers(9, 60)),
    ratio=st.floats(0.1, 0.45),
)
def test_crops_find_to_the_pixel_what_resizing_blurs(size, corner, extent, ratio):
    """Larger than SAM's input: the mask of the whole is a resized one's, that of the crops exact."""
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


def test_crops_are_encoded_once_and_only_where_a_border_runs():
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


def test_crops_of_a_small_image_are_the_whole():
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
    """Two points and a box each for three masks."""
    points = torch.tensor([[[20.0, 30], [70, 35]], [[100, 10], [139, 39]], [[3, 3], [60, 20]]])
    boxes = torch.tensor([[10.0, 10, 60, 39], [70, 2, 139, 30], [0, 0, 100, 39]])
    return (
        predictor.transform.apply_coords_torch(points, shape),
        torch.tensor([[1, 0], [1, 1], [1, 0]]),
        predictor.transform.apply_boxes_torch(boxes, shape),
    )


# With crops an answer goes through the network twice: the mask found in the whole picture is a prompt for the crops.
PASSES = {"resize": 1, "crops": 2}


@pytest.mark.parametrize("oversize", PASSES)
@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_a_tiny_sam(oversize, seed):
    """The arithmetic behind the tests' tolerances holds: float32 is that near to float64, with the same weights."""
    shape, answers = (40, 140), []
    for sam in (tiny_sam(seed), in_float64(tiny_sam(seed))):
        predictor = EnhancedSamPredictor(sam, oversize=oversize)
        predictor.set_image(picture(5, *shape))
        answers.append(predictor.predict_torch(*batched_prompts(predictor, shape), return_logits=True))
    for single, double in zip(*answers, strict=True):
        assert double.dtype == torch.float64
        # The prompts that are compared have masks of their own, far apart beside the rounding.
        assert (double[0] - double[1]).abs().max() > 20 * PASSES[oversize] * ROUNDING * double.abs().max()
        assert_equal_but_for_rounding(single.double(), double, PASSES[oversize] * ROUNDING)


@pytest.mark.parametrize("oversize", PASSES)
@pytest.mark.parametrize("precise", [False, True])
def test_prompts_of_a_batch_are_answered_each_alone(oversize, precise):
    """In a low picture, whose crops SAM pads; in float32, and where rounding cannot hide anything."""
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
def test_crops_answer_continuously(given):
    """Nothing that a rounding tips changes a mask: not whether a crop is asked, not the box that it is asked with.

    The threshold is put a hair below and a hair above the largest and smallest logit of each row and column of the
    picture, where a choice by ``logits > threshold`` falls either way, and answers must move by about a hair.
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
            # A box moves by a crop's 64 pixels for a logit, and an embedding turns a few times in a crop.
            assert (below - above).abs().max() <= 1e4 * hair * above.abs().max()


def test_a_prompt_has_one_box():
    predictor = EnhancedSamPredictor(tiny_sam())
    predictor.set_image(picture(5, 40, 60))
    with pytest.raises(ValueError, match="boxes must be"):
        predictor.predict(box=np.array([[1, 2, 30, 20], [5, 6, 50, 30]]))


def test_sam_sees_what_the_enhancer_makes():
    sam, image = tiny_sam(), picture(6, 48, 64)
    enhancer = GammaCorrection(gamma=0.4)
    own, plain = EnhancedSamPredictor(sam, enhancer), SamPredictor(sam)
    seen = own.enhance(image)
    expected = (255 * (image / 255.0) ** 0.4).round()
    assert np.abs(seen.pixels.astype(float) - expected).max() <= 1
    own.set_image(image)
    plain.set_image(seen.pixels)
    assert torch.equal(own.features, plain.features)
    own.set_image(seen)
    assert torch.equal(own.features, plain.features)


def test_bgr_and_rgb_are_the_same_picture():
    sam, image = tiny_sam(), picture(7, 40, 64)
    image[..., 0] //= 2
    predictor = EnhancedSamPredictor(sam, "PSENet")
    features = []
    for shown, image_format in ((image, "RGB"), (image[..., ::-1], "BGR"), (image, "BGR")):
        predictor.set_image(shown, image_format)
        features.append(predictor.features)
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])


class _Gain(Enhancer):
    """``gain * image``, enlarged by repeating pixels."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        self.capabilities = Capabilities(scale=scale, halo=0, precisions=(torch.float32,))
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return self.gain * image.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


def projected(value: torch.Tensor) -> torch.Tensor:
    """A number that normalisation does not make constant."""
    return (value * torch.linspace(-1, 2, value.numel()).view_as(value).sin()).sum()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("oversize", ["resize", "crops"])
def test_gradients_reach_the_enhancer_through_encoder_and_decoder(scale, oversize):
    sam, enhancer = tiny_sam().requires_grad_(False), _Gain(scale)
    predictor = EnhancedSamPredictor(sam, enhancer, with_grad=True, oversize=oversize)
    image = picture(8, 40, 70)
    predictor.set_image(image)
    boxes = predictor.transform.apply_boxes_torch(torch.tensor([[10.0, 10, 60, 30]]), (40, 70))
    logits, iou, _ = predictor.predict_torch(None, None, boxes, return_logits=True)
    for value in (predictor.features, logits, iou):
        (gradient,) = torch.autograd.grad(projected(value), enhancer.gain, retain_graph=True)
        assert gradient.isfinite()
        assert gradient.abs() > 0
    with torch.no_grad():
        predictor.set_image(image)
        assert not predictor.features.requires_grad


def test_a_look_without_gradients_takes_none_away():
    enhancer, gradients = _Gain(), []
    boxes = torch.tensor([[5.0, 9, 55, 30]])
    for looks in (False, True):
        predictor = EnhancedSamPredictor(tiny_sam().requires_grad_(False), enhancer, with_grad=True, oversize="crops")
        predictor.set_image(picture(8, 40, 140))
        if looks:
            with torch.no_grad():
                predictor.predict_torch(None, None, boxes)
        logits, _, _ = predictor.predict_torch(None, None, boxes, return_logits=True)
        gradients += torch.autograd.grad(projected(logits), enhancer.gain)
    assert gradients[1] == gradients[0] != 0


def test_without_gradients_an_enhancer_in_training_mode_is_evaluated():
    class Doubling(_Gain):
        def forward(self, image):
            return super().forward(image) * (1 + self.training)

    sam, image = tiny_sam(), picture(9, 48, 64)
    plain, own = SamPredictor(sam), EnhancedSamPredictor(sam, Doubling().train())
    plain.set_image(image)
    own.set_image(image)
    assert torch.equal(own.features, plain.features)
    shown = torch.from_numpy(image).permute(2, 0, 1)[None]
    own.set_torch_image(shown, (48, 64))
    assert torch.equal(own.features, plain.features)
    assert own.enhancer.training


def test_the_gradient_is_that_of_the_unrounded_image():
    """By finite differences of the same network without rounding, in double precision."""
    sam, enhancer = tiny_sam().requires_grad_(False), _Gain()
    image = picture(9, 48, 64)
    predictor = EnhancedSamPredictor(sam, enhancer, with_grad=True)
    predictor.set_image(image)
    (gradient,) = torch.autograd.grad(projected(predictor.features), enhancer.gain)
    unit = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255

    def value(gain: float) -> float:
        levels = torch.nn.functional.pad(255 * gain * unit, (0, 0, 0, 16))
        sam.double()
        shown = (levels - sam.pixel_mean) / sam.pixel_std
        shown[..., 48:, :] = 0
        return float(projected(sam.image_encoder(shown)))

    expected = (value(1 + 1e-5) - value(1 - 1e-5)) / 2e-5
    assert float(gradient) == pytest.approx(expected, rel=2e-3)


def test_without_with_grad_nothing_is_recorded():
    predictor = EnhancedSamPredictor(tiny_sam(), _Gain())
    predictor.set_image(picture(1, 30, 40))
    assert not predictor.features.requires_grad


@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_steps_are_the_predictor_but_for_rounding(shape):
    sam, image = tiny_sam(), picture(10, *shape)
    plain = SamPredictor(sam)
    plain.set_image(image)
    unit = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    prompts = all_prompts(*shape)["all"]
    arguments = dict(
        points=torch.tensor(prompts["point_coords"])[None].float(),
        point_labels=torch.tensor(prompts["point_labels"])[None],
        boxes=torch.tensor(prompts["box"])[None].float(),
        mask_input=torch.tensor(prompts["mask_input"])[None],
    )
    with torch.no_grad():
        embeddings = sam_embeddings(sam, [unit, unit.flip(-1)])
        logits, iou, low_res = decode_masks(sam, plain.features, shape, **arguments)
    expected = plain.predict(**prompts, multimask_output=False, return_logits=True)
    for mine, theirs in zip((logits, iou, low_res), expected, strict=True):
        np.testing.assert_allclose(mine[0], theirs, atol=1e-3, rtol=1e-4)
    # PIL rounds each of its two passes to 8 bits.
    same, mirrored = (float((each - plain.features[0]).norm() / plain.features.norm()) for each in embeddings)
    assert same < 0.02
    assert mirrored > 0.1


def test_windows_of_an_enhanced_image_are_those_of_the_raw_one():
    image = picture(11, 20, 30)
    seen = EnhancedImage(image.repeat(4, 0).repeat(4, 1), 4)
    assert seen.shape == image.shape
    part = seen[3:9, 5:20, :]
    assert part.shape == (6, 15, 3)
    np.testing.assert_array_equal(part.pixels[::4, ::4], image[3:9, 5:20])


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (dict(oversize="tiles"), ValueError, "oversize"),
        (dict(crop_overlap_ratio=0.5), ValueError, "crop_overlap_ratio"),
        (dict(enhancer=CLAHE(), with_grad=True), ValueError, "CLAHE"),
        (dict(enhancer="Nothing"), KeyError, "Nothing"),
    ],
)
def test_wrong_options(arguments, error, named):
    with pytest.raises(error, match=named):
        EnhancedSamPredictor(tiny_sam(), **arguments)


@pytest.mark.parametrize(
    ("image", "image_format", "error"),
    [
        (np.zeros((9, 9, 3), np.float32), "RGB", TypeError),
        ("picture.png", "RGB", TypeError),
        (np.zeros((9, 9), np.uint8), "RGB", ValueError),
        (np.zeros((9, 0, 3), np.uint8), "RGB", ValueError),
        (np.zeros((9, 9, 4), np.uint8), "RGB", ValueError),
        (np.zeros((9, 9, 3), np.uint8), "rgb", ValueError),
    ],
)
def test_wrong_images(image, image_format, error):
    with pytest.raises(error, match="image"):
        EnhancedSamPredictor(tiny_sam()).set_image(image, image_format)


def test_a_transformed_image_of_another_size():
    with pytest.raises(ValueError, match="long side of 64"):
        EnhancedSamPredictor(tiny_sam()).set_torch_image(torch.zeros(1, 3, 40, 50), (40, 50))


@pytest.mark.parametrize("image", [torch.zeros(3, 9, 9, dtype=torch.uint8), torch.zeros(9, 9), torch.zeros(9, 9, 3)])
def test_wrong_images_for_embeddings(image):
    with pytest.raises(ValueError, match=r"\(3, H, W\) and floating"):
        sam_embeddings(tiny_sam(), [image])


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_models_are_those_of_segment_anything(model):
    with torch.device("meta"):
        own, theirs = build_sam(model), sam_model_registry[model]()
    shapes = [{name: value.shape for name, value in sam.state_dict().items()} for sam in (own, theirs)]
    assert shapes[0] == shapes[1]
    for sam in (own, theirs):
        assert sam.image_encoder.img_size == 1024
    windows = [[block.window_size for block in sam.image_encoder.blocks] for sam in (own, theirs)]
    assert windows[0] == windows[1]


def test_a_public_checkpoint_loads_by_path_with_its_digest(tmp_path):
    """The layout of the public files: a plain state dict without the pixels' mean."""
    sam = tiny_sam(seed=3)
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    loaded = build_sam("small", path, **TINY)
    image = picture(1, 40, 50)
    features = []
    for model in (sam, loaded):
        predictor = SamPredictor(model)
        predictor.set_image(image)
        features.append(predictor.features)
    assert torch.equal(*features)
    digest = save_state_dict(sam.state_dict(), tmp_path / "sam.safetensors")
    build_sam("small", f"{tmp_path / 'sam.safetensors'}#sha256={digest}", **TINY)
    with pytest.raises(CheckpointError, match="sha256"):
        build_sam("small", f"{tmp_path / 'sam.safetensors'}#sha256={'0' * 64}", **TINY)
    with pytest.raises(CheckpointError, match="tensors matched"):
        build_sam("small", path, **dict(TINY, embed_dim=32))


@pytest.mark.parametrize(
    ("model", "sizes", "error", "named"),
    [
        ("vit_g", {}, ValueError, "vit_b"),
        ("small", dict(width=3), TypeError, "width"),
        ("small", dict(img_size=60), ValueError, "patch"),
    ],
)
def test_no_such_model(model, sizes, error, named):
    with pytest.raises(error, match=named):
        build_sam(model, **sizes)
