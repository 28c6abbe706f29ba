"""``PackPairedDetInputs`` changes the normal-light picture of a scene as the pipeline has changed the dark one."""

import random

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from llie_preproc.detection.pack_paired import PackPairedDetInputs
from tests.support import mmdet_models  # noqa: F401  registers MMDetection's transforms


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    """Ramps: they look the same whether they are resampled once or twice."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [rows * 200 // height, columns * 200 // width, (rows + columns) * 200 // (height + width)], 2
    ).astype(np.uint8)


def run(steps, image, seed):
    """Results of a pipeline without packing, for a picture in memory and seeded random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    shape = image.shape[:2]
    boxes = HorizontalBoxes(np.array([[2, 2, shape[1] - 2, shape[0] - 2]], np.float32))
    results = dict(
        img_path="dark/seven.jpg", img=image, img_shape=shape, ori_shape=shape, img_id=1,
        gt_bboxes=boxes, gt_bboxes_labels=np.zeros(1, np.int64), gt_ignore_flags=np.zeros(1, bool),
    )  # fmt: skip
    return Compose([MMDET_TRANSFORMS.build(step) for step in steps])(results)


def packer(folder, **options):
    return PackPairedDetInputs(folder=str(folder), **options)


def write(folder, pair, name="seven.png"):
    folder.mkdir(exist_ok=True)
    assert cv2.imwrite(str(folder / name), pair)
    return folder


def packed_pair(results, folder, **options):
    """The packed pair as ``(H, W, 3)`` BGR, and the sample's entry for it."""
    entry = packer(folder, **options)(results)["data_samples"].gt_normal_light
    return entry.data.permute(1, 2, 0).flip(2).numpy(), entry


FLIPS = [dict(type="RandomFlip", prob=1.0, direction=d) for d in ("horizontal", "vertical", "diagonal")]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    target=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    keep_ratio=st.booleans(),
    flip=st.sampled_from([None, *FLIPS]),
    crop=st.one_of(st.none(), st.tuples(st.floats(0.3, 1.0), st.floats(0.3, 1.0))),
    flip_first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_pair_is_what_the_pipeline_would_have_made_of_it(
    tmp_path, size, target, keep_ratio, flip, crop, flip_first, seed
):
    dark, light = noise(*size, seed), noise(*size, seed + 1)
    resize = dict(type="Resize", scale=target, keep_ratio=keep_ratio)
    cut = [dict(type="RandomCrop", crop_type="relative", crop_size=crop, allow_negative_crop=True)] if crop else []
    mirror = [flip] if flip else []
    steps = [resize, *mirror, *cut] if flip_first else [resize, *cut, *mirror]
    pair, entry = packed_pair(run(steps, dark, seed), write(tmp_path, light))
    assert np.array_equal(pair, run(steps, light, seed)["img"])
    assert "valid" not in entry


@pytest.mark.parametrize("flip", FLIPS)
def test_a_pair_for_an_enlarging_enhancer_is_as_large_as_its_result(flip, tmp_path):
    dark, light = noise(30, 40, 0), noise(60, 80, 1)
    results = run([dict(type="Resize", scale=(50, 50), keep_ratio=True), flip], dark, 0)
    pair, _ = packed_pair(results, write(tmp_path, light), scale=2)
    height, width = results["img_shape"]
    expected = run([dict(type="Resize", scale=(2 * width, 2 * height), keep_ratio=False), flip], light, 0)["img"]
    assert np.array_equal(pair, expected)


def test_a_crop_of_an_enlarged_pair_lies_on_the_crop_of_the_input(tmp_path):
    """The pair repeats each pixel of the input in a block of two by two."""
    dark = noise(30, 40, 0)
    light = dark.repeat(2, axis=0).repeat(2, axis=1)
    results = run([dict(type="RandomCrop", crop_size=(20, 25)), FLIPS[0]], dark, 4)
    pair, _ = packed_pair(results, write(tmp_path, light), scale=2)
    assert np.array_equal(pair[::2, ::2], results["img"])
    assert np.array_equal(pair[1::2, 1::2], results["img"])


@pytest.mark.parametrize("kind", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"])
def test_geometric_transforms_are_followed(kind, tmp_path):
    dark, light = noise(90, 120, 0), smooth(90, 120)
    steps = [
        dict(type="Resize", scale=(200, 150), keep_ratio=False),
        dict(type=kind, prob=1.0, level=10, img_border_value=255),
        FLIPS[0],
    ]
    pair, entry = packed_pair(run(steps, dark, 2), write(tmp_path, light))
    expected = run(steps, light, 2)["img"]
    # MMDetection's rotations are half a pixel off the matrix that it records.
    valid = cv2.erode(entry.valid[0].numpy().astype(np.uint8), np.ones((5, 5)), borderValue=0).astype(bool)
    assert 0.5 < valid.mean() < 1
    assert np.abs(pair[valid].astype(int) - expected[valid]).max() <= 3
    outside = ~cv2.dilate(entry.valid[0].numpy().astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert (expected[outside] == 255).all()


def test_padding_is_not_valid_in_the_pair(tmp_path):
    dark, light = noise(30, 40, 0), noise(30, 40, 1)
    results = run([FLIPS[0], dict(type="Pad", size=(50, 36))], dark, 0)
    pair, entry = packed_pair(results, write(tmp_path, light))
    assert pair.shape == (36, 50, 3)
    assert np.array_equal(pair[:30, :40], light[:, ::-1])
    expected = np.zeros((36, 50), bool)
    expected[:30, :40] = True
    assert np.array_equal(entry.valid[0].numpy(), expected)


def test_the_rest_is_packed_as_mmdetection_packs_it(tmp_path):
    dark = noise(30, 40, 0)
    folder = write(tmp_path, noise(30, 40, 1))
    keys = ("img_id", "img_path", "ori_shape")
    ours = packer(folder, meta_keys=keys)(run([FLIPS[0]], dark, 0))
    theirs = MMDET_TRANSFORMS.build(dict(type="PackDetInputs", meta_keys=keys))(run([FLIPS[0]], dark, 0))
    assert ours["data_samples"].metainfo == theirs["data_samples"].metainfo
    assert np.array_equal(ours["inputs"].numpy(), theirs["inputs"].numpy())
    boxes = [each["data_samples"].gt_instances.bboxes.tensor for each in (ours, theirs)]
    assert np.array_equal(*boxes)


def test_a_pair_of_another_colour_depth_or_suffix_is_read(tmp_path):
    """The levels of a grey file of 16 bits are divided by 257; blue is in the last channel."""
    levels = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) % 256
    folder = write(tmp_path, levels * 257, "seven.tif")
    _, entry = packed_pair(run([], noise(30, 40, 0), 0), folder)
    assert np.array_equal(entry.data.numpy(), np.broadcast_to(levels, (3, 30, 40)))
    blue = np.zeros((30, 40, 3), np.uint8)
    blue[..., 0] = 200
    (folder / "seven.tif").unlink()
    _, entry = packed_pair(run([], noise(30, 40, 0), 0), write(tmp_path, blue))
    assert entry.data.amax(dim=(1, 2)).tolist() == [0, 0, 200]


def test_a_missing_pair_is_left_out_or_refused(tmp_path):
    folder = write(tmp_path, noise(30, 40, 1), "eight.png")
    results = run([], noise(30, 40, 0), 0)
    assert "gt_normal_light" not in packer(folder)(dict(results))["data_samples"]
    with pytest.raises(FileNotFoundError, match=r"dark/seven\.jpg has no pair"):
        packer(folder, missing="error")(results)


def test_transforms_that_cannot_be_followed_are_refused(tmp_path):
    folder, dark = write(tmp_path, noise(80, 120, 1)), noise(80, 120, 0)
    affine = dict(type="RandomAffine", border=(-20, -20))
    for steps in ([affine], [dict(type="Expand", prob=1.0, ratio_range=(2, 3)), FLIPS[0]]):
        with pytest.raises(ValueError, match=r"dark/seven\.jpg.*homography_matrix"):
            packer(folder)(run(steps, dark, 1))


def test_crops_that_all_begin_at_the_corner_are_no_random_crops(tmp_path):
    """``RandomAffine`` records nothing, so its smaller picture looks like a crop from the corner."""
    folder, dark = write(tmp_path, noise(80, 120, 1)), noise(80, 120, 0)
    steps = [dict(type="RandomAffine", border=(-20, -20)), dict(type="RandomFlip", prob=0.5)]
    pack = packer(folder)

    def take_ten():
        for seed in range(10):
            pack(run(steps, dark, seed))

    with pytest.raises(ValueError, match="homography_matrix"):
        take_ten()
    pack = packer(folder)
    for seed in range(10):
        pack(run([dict(type="RandomCrop", crop_size=(60, 100)), dict(type="RandomFlip", prob=0.5)], dark, seed))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (dict(scale=0), ValueError, "scale must be at least 1"),
        (dict(missing="ignore"), ValueError, "'ignore'"),
        (dict(folder="nowhere"), FileNotFoundError, "nowhere"),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, match, tmp_path):
    write(tmp_path, noise(8, 8, 0))
    with pytest.raises(error, match=match):
        packer(**{"folder": tmp_path, **options})


def test_pairs_of_a_wrong_size_or_of_the_same_name_are_refused(tmp_path):
    folder = write(tmp_path, noise(30, 40, 1))
    with pytest.raises(ValueError, match=r"2 times as large.*\(60, 80\).*\(30, 40\)"):
        packer(folder, scale=2)(run([], noise(30, 40, 0), 0))
    write(tmp_path, noise(30, 40, 1), "seven.jpg")
    with pytest.raises(ValueError, match=r"seven\.(jpg|png) and .*seven\.(jpg|png)"):
        packer(folder)


def test_two_inputs_of_one_name_do_not_share_a_pair(tmp_path):
    pair = noise(20, 30, 0)
    pack = packer(write(tmp_path / "pairs", pair))
    results = run([], pair, 0)
    for camera in ("cam1", "cam1"):
        pack(dict(results, img_path=f"{camera}/seven.jpg"))
    with pytest.raises(ValueError, match=r"seven\.png would be the pair of cam1/seven\.jpg and of cam2/seven\.jpg"):
        pack(dict(results, img_path="cam2/seven.jpg"))
