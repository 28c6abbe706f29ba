"""Crops, flips, turns and resizing change a reference like its input; strong augmentation has its stated chances."""

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from llie_preproc.registry import TRANSFORMS
from tests.support.made_trees import pixels_of
from training.datasets import (
    PairedRandomCrop,
    PairedRandomResize,
    PairedResize,
    RandomDihedral,
    RandomFlip,
    StrongAugmentation,
)


def picture(seed, width=12, height=10):
    return torch.from_numpy(pixels_of(seed, width, height)).permute(2, 0, 1)


def pictures_of(seed, width, height, scale):
    """An input with references that are known functions of it."""
    image = picture(seed, width, height)
    target = (255 - image).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return {"image": image, "target": target, "target_x1": 255 - image}


def assert_correspond(pictures, scale):
    expected = (255 - pictures["image"]).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    assert torch.equal(pictures["target"], expected)
    assert torch.equal(pictures["target_x1"], 255 - pictures["image"])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    width=st.integers(4, 12),
    height=st.integers(4, 12),
    scale=st.sampled_from([1, 2, 4]),
    steps=st.lists(st.sampled_from(["crop", "dihedral", "flip"]), min_size=1, max_size=4),
)
def test_references_are_transformed_with_their_input(seed, width, height, scale, steps):
    torch.manual_seed(seed)
    pictures = pictures_of(seed, width, height, scale)
    for step in steps:
        smallest = min(pictures["image"].shape[1:])
        made = {"crop": PairedRandomCrop(max(1, smallest - 1)), "dihedral": RandomDihedral(), "flip": RandomFlip()}
        pictures = made[step](pictures)
        assert_correspond(pictures, scale)


def test_the_crop_is_uniform_over_all_windows():
    torch.manual_seed(0)
    image = torch.arange(5 * 4).reshape(1, 4, 5).expand(3, 4, 5).to(torch.uint8)
    crop = PairedRandomCrop((3, 2))
    corners = torch.tensor([int(crop({"image": image})["image"][0, 0, 0]) for _ in range(1800)])
    places, counts = corners.unique(return_counts=True)
    assert sorted(places.tolist()) == [0, 1, 2, 5, 6, 7, 10, 11, 12]
    # Each window is expected 200 times; five standard deviations are allowed.
    assert (counts - 200).abs().max() < 5 * (200 * 8 / 9) ** 0.5


def test_all_elements_of_the_dihedral_group_are_drawn():
    torch.manual_seed(0)
    image = picture(0, 3, 3)
    seen = {RandomDihedral()({"image": image})["image"].numpy().tobytes() for _ in range(200)}
    square = image.permute(1, 2, 0).numpy()
    turned = [np.rot90(m, k) for m in (square, square[::-1]) for k in range(4)]
    assert seen == {np.ascontiguousarray(t.transpose(2, 0, 1)).tobytes() for t in turned}


@pytest.mark.parametrize(
    ("options", "number"), [({}, 4), ({"vertical": False}, 2), ({"horizontal": False, "vertical": False}, 1)]
)
def test_flips_are_along_the_chosen_axes(options, number):
    torch.manual_seed(0)
    image = picture(0, 3, 2)
    seen = {RandomFlip(**options)({"image": image})["image"].numpy().tobytes() for _ in range(60)}
    axes = [(), (2,), (1,), (1, 2)][:number]
    assert seen == {np.ascontiguousarray(np.flip(image.numpy(), a)).tobytes() for a in axes}


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_resizing_keeps_the_ratio_and_agrees_with_pillow(scale):
    torch.manual_seed(0)
    pictures = pictures_of(0, 24, 20, scale)
    resized = PairedResize((15, 9))(pictures)
    assert resized["image"].shape == (3, 9, 15)
    assert resized["target"].shape == (3, 9 * scale, 15 * scale)
    for field, factor in (("image", 1), ("target", scale)):
        source = Image.fromarray(pictures[field].permute(1, 2, 0).numpy())
        expected = np.asarray(source.resize((15 * factor, 9 * factor), Image.Resampling.BILINEAR)).astype(int)
        assert abs(resized[field].permute(1, 2, 0).numpy() - expected).max() <= 1
    quarter = PairedResize(factor=0.25)
    assert quarter(pictures)["target"].shape == (3, 5 * scale, 6 * scale)
    assert quarter.output_size(24, 20) == (6, 5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    width=st.integers(1, 30),
    height=st.integers(1, 30),
    scale=st.sampled_from([1, 2]),
    factors=st.tuples(st.floats(0.1, 2), st.floats(0.1, 2)).map(sorted),
    least=st.integers(1, 20),
)
def test_a_random_factor_is_within_its_range_unless_the_result_would_be_too_small(
    seed, width, height, scale, factors, least
):
    torch.manual_seed(seed)
    pictures = pictures_of(0, width, height, scale)
    made = PairedRandomResize(factors, least)(pictures)
    new_height, new_width = made["image"].shape[1:]
    assert min(new_height, new_width) >= least
    assert made["target"].shape == (3, scale * new_height, scale * new_width)
    allowed = [max(factor, least / min(width, height)) for factor in factors]
    for old, new in ((width, new_width), (height, new_height)):
        assert allowed[0] * old - 0.51 <= new <= max(allowed[1] * old + 0.51, least)
    smallest, largest = PairedRandomResize(factors, least).output_size(width, height)
    assert smallest[0] <= new_width <= largest[0]
    assert smallest[1] <= new_height <= largest[1]
    ends = [PairedRandomResize((factor, factor), least)(pictures)["image"].shape[:0:-1] for factor in factors]
    assert [tuple(end) for end in ends] == [smallest, largest]
    resized = PairedResize((new_width, new_height))(pictures)
    assert all(torch.equal(made[field], resized[field]) for field in pictures)


def test_random_factors_are_uniform():
    torch.manual_seed(0)
    image = torch.zeros(3, 4, 1000, dtype=torch.uint8)
    resize = PairedRandomResize((0.5, 1.5))
    found = np.array([resize({"image": image})["image"].shape[2] / 1000 for _ in range(300)])
    assert stats.kstest(found - 0.5, "uniform").pvalue > 1e-3


def test_a_reference_must_be_a_whole_multiple_of_its_input():
    with pytest.raises(ValueError, match=r"target must be a whole number of times .* 4x4, got 6x8"):
        RandomFlip()({"image": picture(0, 4, 4), "target": picture(0, 6, 8)})


def test_a_picture_smaller_than_the_crop_is_refused():
    with pytest.raises(ValueError, match="12x10 is smaller than the crop of 16x8"):
        PairedRandomCrop((16, 8))({"image": picture(0)})


@pytest.mark.parametrize(
    "config",
    [
        {"type": "llie_preproc.PairedResize"},
        {"type": "llie_preproc.PairedResize", "size": 8, "factor": 2.0},
        {"type": "llie_preproc.PairedResize", "factor": -1},
        {"type": "llie_preproc.PairedRandomResize", "factor": (0.0, 1.0)},
        {"type": "llie_preproc.PairedRandomResize", "factor": (1.0, 0.5)},
        {"type": "llie_preproc.PairedRandomResize", "factor": 0.5},
        {"type": "llie_preproc.PairedRandomCrop", "size": 0},
        {"type": "llie_preproc.PairedRandomCrop", "size": (1, 2, 3)},
    ],
)
def test_invalid_settings_are_refused(config):
    with pytest.raises(ValueError, match=r"size|factor"):
        TRANSFORMS.build(config)


@pytest.mark.parametrize("least", [0, -3, 2.5, True])
def test_a_smallest_edge_must_be_a_whole_number_above_0(least):
    with pytest.raises(ValueError, match=f"least must be a whole number of at least 1, got {least}"):
        PairedRandomResize((0.5, 1.0), least)


ROWS = {
    "none": dict(jitter=False, grayscale=False, blur=False),
    "jitter": dict(grayscale=False, blur=False),
    "blur": dict(jitter=False, grayscale=False),
    "grayscale": dict(jitter=False, blur=False),
    "all": {},
}


def is_grey(image):
    return bool((image == image[:1]).all())


@pytest.mark.examples(2)
@pytest.mark.parametrize("row", ROWS)
def test_each_step_of_the_strong_augmentation_has_its_chance(row):
    torch.manual_seed(0)
    # A blur leaves a picture of one colour as it is, jitter changes the colour, grayscale removes it.
    flat = torch.tensor([200, 90, 40], dtype=torch.uint8)[:, None, None].expand(3, 9, 9).contiguous()
    noise, number = picture(1, 9, 9), 600
    strong = TRANSFORMS.build({"type": "llie_preproc.StrongAugmentation", **ROWS[row]})
    views = [strong(flat) for _ in range(number)]
    assert all(v.dtype == torch.uint8 and v.shape == flat.shape for v in views)
    grey = sum(map(is_grey, views)) / number
    changed = sum(not torch.equal(v, flat) and not is_grey(v) for v in views) / number
    rough = [strong(noise) for _ in range(number)]
    blurred = sum(float(v.float().var()) < 0.9 * float(noise.float().var()) and not is_grey(v) for v in rough) / number
    tolerance = 4 * 0.5 / number**0.5
    assert grey == pytest.approx(0.2 if row in ("grayscale", "all") else 0, abs=tolerance)
    assert changed == pytest.approx({"jitter": 0.8, "all": 0.8 * 0.8}.get(row, 0), abs=tolerance)
    if row in ("none", "grayscale"):
        assert blurred == 0
    if row == "blur":
        # One of three kernels has size 1 and changes nothing; a deviation below 0.3 changes hardly anything.
        assert blurred == pytest.approx(0.5 * 2 / 3 * (1 - 0.2 / 1.9), abs=0.08)
    if row == "none":
        assert all(torch.equal(v, flat) for v in views)


@pytest.mark.parametrize("bad", [{"image": picture(0)}, picture(0).float(), picture(0)[0]])
def test_augmentation_takes_only_pictures_of_bytes(bad):
    with pytest.raises(TypeError, match="StrongAugmentation takes a picture"):
        StrongAugmentation()(bad)
