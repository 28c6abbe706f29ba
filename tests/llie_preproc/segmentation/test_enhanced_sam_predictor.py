"""``EnhancedSamPredictor`` equals ``SamPredictor`` with Identity, and maps prompts and masks between frames exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything import SamPredictor, sam_model_registry

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.enhancers import CLAHE, GammaCorrection, Identity, Upscale
from llie_preproc.errors import CheckpointError
from llie_preproc.segmentation import (
    EnhancedImage,
    EnhancedSamPredictor,
    build_sam,
    decode_masks,
    sam_embeddings,
)
from tests.support.sam_models import (
    TINY,
    BrightnessSam,
    picture,
    tiny_sam,
)
from tests.support.sam_prompts import all_prompts, assert_equal_results

SHAPES = [(48, 64), (61, 37), (100, 131)]


@pytest.mark.parametrize(
    ("shape", "image_format", "with_grad"),
    [(SHAPES[0], "RGB", False), (SHAPES[1], "BGR", False), (SHAPES[2], "BGR", True), (SHAPES[1], "RGB", True)],
)
def test_identity_equals_sam_predictor(shape, image_format, with_grad):
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
    # The comparison would mean little if all masks were empty or full.
    assert 0.02 < np.mean([mask.mean() for mask in masks]) < 0.98
    own.reset_image()
    assert not own.is_image_set
    with pytest.raises(RuntimeError, match="set_image"):
        own.predict(box=np.array([0, 0, 5, 5]))


def test_identity_equals_sam_predictor_for_transformed_images_and_batched_prompts():
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
def test_an_enlarging_enhancer_enlarges_image_and_prompts(scale, shape):
    """The reference is SamPredictor on the enlarged picture, with prompts enlarged as much."""
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
    """A rectangle on black, enlarged by repeating pixels, has a mask in the raw frame that is exact to the pixel."""
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
    # In the input frame the prompts are where they would be without an enhancer.
    points, boxes, _ = sam.prompt_encoder.asked[0]
    expected_prompt = predictor.transform.apply_coords(prompt.get("point_coords", np.zeros((1, 2))), size)
    if points is not None:
        np.testing.assert_allclose(points[0][0], expected_prompt, rtol=1e-6)
    else:
        np.testing.assert_allclose(boxes[0], predictor.transform.apply_boxes(prompt["box"], size)[0], rtol=1e-6)


def _span(a: float, b: float, length: int) -> tuple[int, int]:
    """A span of at least six pixels, three pixels or more from each end."""
    start = 3 + int(min(a, b) * (length - 12))
    return start, min(length - 3, start + 6 + int(abs(a - b) * length))


def test_several_boxes_in_one_prompt_are_refused():
    predictor = EnhancedSamPredictor(tiny_sam())
    predictor.set_image(picture(5, 40, 60))
    with pytest.raises(ValueError, match="boxes must be"):
        predictor.predict(box=np.array([[1, 2, 30, 20], [5, 6, 50, 30]]))


def test_sam_sees_the_enhanced_picture():
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


@pytest.mark.parametrize("shape", SHAPES)
def test_embedding_and_decoding_equal_the_predictor_up_to_rounding(shape):
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
    # PIL rounds to 8 bits in each of its two passes.
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
def test_wrong_options_are_refused(arguments, error, named):
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
def test_wrong_images_are_refused(image, image_format, error):
    with pytest.raises(error, match="image"):
        EnhancedSamPredictor(tiny_sam()).set_image(image, image_format)


def test_a_transformed_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="long side of 64"):
        EnhancedSamPredictor(tiny_sam()).set_torch_image(torch.zeros(1, 3, 40, 50), (40, 50))


@pytest.mark.parametrize("image", [torch.zeros(3, 9, 9, dtype=torch.uint8), torch.zeros(9, 9), torch.zeros(9, 9, 3)])
def test_wrong_images_for_embeddings_are_refused(image):
    with pytest.raises(ValueError, match=r"\(3, H, W\) and floating"):
        sam_embeddings(tiny_sam(), [image])


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_models_equal_those_of_segment_anything(model):
    with torch.device("meta"):
        own, theirs = build_sam(model), sam_model_registry[model]()
    shapes = [{name: value.shape for name, value in sam.state_dict().items()} for sam in (own, theirs)]
    assert shapes[0] == shapes[1]
    for sam in (own, theirs):
        assert sam.image_encoder.img_size == 1024
    windows = [[block.window_size for block in sam.image_encoder.blocks] for sam in (own, theirs)]
    assert windows[0] == windows[1]


def test_a_public_checkpoint_loads_by_path_with_its_digest(tmp_path):
    """Public files hold a plain state dict without the mean of the pixels."""
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
def test_wrong_models_and_sizes_are_refused(model, sizes, error, named):
    with pytest.raises(error, match=named):
        build_sam(model, **sizes)
