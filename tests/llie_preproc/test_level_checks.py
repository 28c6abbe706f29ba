"""``check_levels`` takes pictures of levels 0 to 255 at each door and refuses others; results must be finite.

The doors are the three places of an enhancer in MMDetection: the transform, the data preprocessor and the detector.
"""

import contextlib
import copy
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import mmcv
import torch
from mmcv.transforms import Normalize
from mmdet.datasets.transforms import PhotoMetricDistortion

from llie_preproc.detection import Enhance, EnhancedDetDataPreprocessor
from llie_preproc.enhancers import Enhancer
from llie_preproc.errors import ImageError
from llie_preproc.faces import EnhancedFaceDetector
from llie_preproc.level_checks import LookAlikes, check_levels
from tests.support.mmdet_models import build, mmdet_config, raw_batch

MEAN, DEVIATION = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
RNG = np.random.default_rng(0)
DARK = RNG.integers(0, 60, (24, 32, 3), dtype=np.uint8)
DAY = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)


class Failing(Enhancer):
    """An enhancer whose result has one given value, by default nan."""

    def __init__(self, value: float = float("nan")) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.value = value

    def forward(self, image):
        result = image * self.gain
        result[:, 0, 3, 2] = self.value
        return result


@pytest.fixture(scope="module")
def doors() -> dict[str, Callable]:
    """Each door as a function from a picture ``(H, W, 3)`` to an enhanced one ``(3, H, W)``."""
    return doors_of("PSENet")


@pytest.fixture
def training_doors(kept_training_doors) -> dict[str, Callable]:
    """Each door in training, as a function of a picture; it has taken a picture that surely holds levels."""
    for door in kept_training_doors.values():
        door(DARK)
    return kept_training_doors


@pytest.fixture(scope="module")
def kept_training_doors() -> dict[str, Callable]:
    transform = Enhance("GammaCorrection")
    preprocessor = EnhancedDetDataPreprocessor("GammaCorrection")
    wrapper = wrapped("GammaCorrection").train()

    def tensor(picture):
        return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)

    return {
        "transform": lambda picture: transform(dict(img=picture)),
        "preprocessor": lambda picture: preprocessor({"inputs": [tensor(picture)]}, True),
        "detector": lambda picture: wrapper.enhance_images([tensor(picture)]),
    }


def wrapped(enhancer, **options):
    model = dict(type="llie_preproc.EnhancedDetector", detector=mmdet_config("retinanet").model, **options)
    return build(dict(model, enhancer=enhancer, checkpoint=None))


def doors_of(enhancer):
    wrapper = wrapped(enhancer).eval()
    preprocessor = EnhancedDetDataPreprocessor(enhancer, checkpoint=None)
    transform = Enhance(enhancer, checkpoint=None, keep_dtype=False)

    def tensor(picture):
        return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)

    def batch(picture):
        made = raw_batch([picture.shape[:2]])
        made["data_samples"][0].set_metainfo(dict(img_path="night/7.png"))
        return {**made, "inputs": [tensor(picture)]}

    return {
        "transform": lambda picture: tensor(transform(dict(img=picture, img_path="night/7.png"))["img"]),
        "preprocessor": lambda picture: preprocessor(batch(picture), False)["inputs"][0],
        "detector": lambda picture: wrapper.predict(**{f"batch_{k}": v for k, v in batch(picture).items()}),
    }


REFUSED = {
    "uint16": ((DARK.astype(np.uint16) * 257), "looks like 16-bit levels, uint16"),
    "int64": (DARK.astype(np.int64), "does not hold levels, int64"),
    "float 16-bit": (DARK.astype(np.float32) * 257, "looks like levels of more than 8 bits"),
    "10-bit": (DAY.astype(np.float32) * 4, "looks like levels of more than 8 bits"),
    "unit": (DARK.astype(np.float32) / 255, r"looks like values in \[0, 1\]"),
    "unit by day": (DAY.astype(np.float32) / 255, r"looks like values in \[0, 1\]"),
    "half": ((DARK / 255).astype(np.float16), r"looks like values in \[0, 1\]"),
    "dark to [-1, 1]": (DARK.astype(np.float32) / 127.5 - 1, "looks normalised"),
    "normalised": (((DARK - MEAN) / DEVIATION).astype(np.float32), "looks normalised"),
    "normalised by day": (((DAY - MEAN) / DEVIATION).astype(np.float32), "looks normalised"),
    "to [-1, 1]": (DAY.astype(np.float32) / 127.5 - 1, "looks normalised"),
    "without its mean": ((DARK - MEAN).astype(np.float32), "looks normalised"),
    "by day without its mean": (DAY.astype(np.float32) - 120, "looks normalised"),
    "dark without a mean": (DARK.astype(np.float32) - 50, "looks normalised"),
    "normalised by 20": ((DAY.astype(np.float32) - 110) / 20, "looks normalised"),
    "normalised by 10": ((DAY.astype(np.float32) - 110) / 10, "looks normalised"),
    "black normalised": (((DARK // 12 - MEAN) / DEVIATION).astype(np.float32), "looks normalised"),
    "nan": (np.where(DARK > 58, np.nan, DARK).astype(np.float32), "not finite"),
    "infinite": (np.where(DARK > 58, np.inf, DARK).astype(np.float32), "not finite"),
    "minus infinite": (np.where(DARK > 58, -np.inf, DARK).astype(np.float32), "not finite"),
}


IN_A_ROW = 16
DOORS = ["transform", "preprocessor", "detector"]


def taken_before_refusal(door, picture, message):
    """How often a door takes a picture before refusing it; before that, it takes one that surely holds levels."""
    door(DARK)
    for taken in range(IN_A_ROW):
        if refusal := refusal_of(door, picture):
            assert re.search(message, refusal)
            return taken
    pytest.fail(f"the door took the picture {IN_A_ROW} times")


def refusal_of(door, picture):
    try:
        door(picture)
    except ImageError as error:
        return str(error)
    return ""


@pytest.mark.examples(15)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", REFUSED)
def test_all_doors_refuse_pictures_that_hold_no_levels(doors, door, kind):
    picture, message = REFUSED[kind]
    # A pipeline may augment before the transform, so one picture that looks normalised is no proof there.
    patience = IN_A_ROW - 1 if door == "transform" and message == "looks normalised" else 0
    assert taken_before_refusal(doors[door], picture, rf"night/7\.png.*{message}") == patience


@pytest.mark.examples(15)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", REFUSED)
def test_all_doors_refuse_such_pictures_in_training_by_the_sixteenth(training_doors, door, kind):
    picture, message = REFUSED[kind]
    patience = IN_A_ROW - 1 if message == "looks normalised" else 0
    assert taken_before_refusal(training_doors[door], picture, message) == patience


@pytest.mark.examples(6)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("top", range(9))
def test_no_door_refuses_augmented_black_pictures_in_training(training_doors, door, top):
    distort, rng, looked = PhotoMetricDistortion(), np.random.default_rng(top), 0
    np.random.seed(top)
    for _ in range(120):
        picture = distort(dict(img=rng.integers(0, top + 1, (16, 16, 3), dtype=np.uint8)))["img"]
        training_doors[door](picture)
        looked += picture.min() < -1
    # Some of these pictures look normalised, so that a door in evaluation would refuse them.
    assert looked > 5


@pytest.mark.parametrize("door", DOORS)
def test_a_picture_of_levels_starts_the_count_again(training_doors, door):
    normalised = REFUSED["normalised"][0]
    for _ in range(2):
        training_doors[door](DAY)
        for _ in range(IN_A_ROW - 1):
            training_doors[door](normalised)
    with pytest.raises(ImageError, match=r"looks normalised.*as did 15 pictures in a row before it"):
        training_doors[door](normalised)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda door: pickle.loads(pickle.dumps(door))])
def test_a_copy_of_a_door_has_its_own_count(copied):
    door = Enhance("GammaCorrection")
    door(dict(img=REFUSED["normalised"][0]))
    copied(door)(dict(img=DAY))
    assert door.look_alikes.in_a_row == 1


def test_the_count_is_not_in_the_state_dict_and_does_not_change_in_evaluation():
    for door in (EnhancedDetDataPreprocessor("GammaCorrection"), wrapped("GammaCorrection").train()):
        assert not any("look_alikes" in name for name in door.state_dict())
        door.look_alikes.in_a_row = IN_A_ROW - 1
        door.eval().enhance_images([torch.from_numpy(DAY).permute(2, 0, 1)])
        assert door.look_alikes.in_a_row == IN_A_ROW - 1


def test_the_transform_refuses_a_picture_that_the_pipeline_normalised():
    results = dict(img=DARK.copy(), img_path="night/7.png")
    normalised = Normalize(MEAN, DEVIATION, to_rgb=False)(dict(results))
    with pytest.raises(ImageError, match=r"night/7\.png was normalised before"):
        Enhance("GammaCorrection")(normalised)
    Enhance("GammaCorrection")(Normalize([0, 0, 0], [1, 1, 1], to_rgb=False)(dict(results)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("top", [2, 3, 5, 60, 255])
def test_levels_that_were_resized_as_floats_are_taken(top, interpolation):
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, top + 1, (32, 32, 3)).astype(np.float32)
        resized = mmcv.imresize(noise, (75 + seed, 97), interpolation=interpolation)
        check_levels([torch.from_numpy(resized).permute(2, 0, 1)])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_all_doors_refuse_pictures_without_three_channels(doors, door, channels):
    with pytest.raises((ImageError, TypeError), match="colour images"):
        doors[door](DARK[..., :1].repeat(channels, axis=2))


def black(shape=(24, 32, 3)):
    return np.zeros(shape, np.float32)


def padded(picture, value=0.0):
    return np.pad(picture, ((0, 9), (0, 5), (0, 0)), constant_values=value)


TAKEN = {
    "black": black(),
    "black padded": padded(black(), 114),
    "white": np.full((24, 32, 3), 255.0, np.float32),
    "ones": np.ones((24, 32, 3), np.float32),
    "noise of one level": RNG.integers(0, 2, (24, 32, 3)).astype(np.float32),
    "noise of three levels": RNG.integers(0, 4, (24, 32, 3)).astype(np.float32),
    "black made lighter": black() + np.float32(0.37),
    "black made darker": padded(black() - np.float32(0.37)),
    "dark resized": np.linspace(0, 1.7, 24 * 32 * 3, dtype=np.float32).reshape(24, 32, 3),
    "uint8": DARK,
    "uint8 of one level": (DARK > 30).astype(np.uint8),
    "made as light as augmentation can": np.full((24, 32, 3), (255 + 32) * 1.5, np.float32),
    "overshooting": DAY.astype(np.float32) * 1.5 - 48,
}


@pytest.mark.parametrize("kind", TAKEN)
def test_black_padded_and_augmented_pictures_are_taken(kind):
    check_levels([torch.from_numpy(TAKEN[kind]).permute(2, 0, 1)])


@pytest.mark.parametrize(
    "picture", [black(), padded(black()), DARK, DAY, np.full((24, 32, 3), (255, 0, 0)), DARK // 20], ids=range(6)
)
def test_photometric_distortion_is_taken_whatever_it_draws(picture):
    distort, widest = PhotoMetricDistortion(), [0.0, 0.0]
    for seed in range(150):
        np.random.seed(seed)
        made = distort(dict(img=picture.astype(np.float32).copy()))["img"]
        check_levels([torch.from_numpy(made).permute(2, 0, 1)], look_alikes=LookAlikes())
        widest = [min(widest[0], made.min()), max(widest[1], made.max())]
    # The distortion does leave the range.
    assert widest[0] < -20


def test_checking_a_batch_waits_for_the_device_once(monkeypatch):
    looks = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self, plain=torch.Tensor.tolist: looks.append(1) or plain(self))
    floats = [torch.from_numpy(DAY.astype(np.float32)).permute(2, 0, 1)] * 4
    check_levels(floats)
    assert len(looks) == 1
    check_levels(floats, look_alikes=LookAlikes())
    assert len(looks) == 2
    check_levels([each.to(torch.uint8) for each in floats])
    assert len(looks) == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_every_door_refuses_a_result_that_is_not_finite(door, value):
    with pytest.raises(ImageError, match=r"night/7\.png: the result of Failing under float32 is not finite"):
        doors_of(Failing(value))[door](DARK)


def test_a_result_that_is_not_finite_is_not_cached(tmp_path):
    with pytest.raises(ImageError, match="not finite"):
        Enhance(Failing(), cache_dir=tmp_path)(dict(img=DARK))
    assert not list(tmp_path.rglob("*.npy"))


def test_a_face_detector_does_not_get_a_result_that_is_not_finite():
    with pytest.raises(ImageError, match="image 0: the result of Failing under float32 is not finite"):
        EnhancedFaceDetector(None, Failing()).detect([DARK])


def test_a_trainable_enhancer_may_give_values_that_are_not_finite_in_training():
    wrapper = wrapped(Failing(), trainable=True)
    losses = wrapper.train().loss(*raw_batch([(64, 64)]).values())
    assert not torch.stack([torch.stack(list(v)).sum() for k, v in losses.items() if "loss" in k]).isfinite().all()
    with pytest.raises(ImageError, match="not finite"):
        wrapper.eval().predict(*raw_batch([(64, 64)]).values())


@pytest.mark.parametrize("pad", [0, 0.5, 114])
@pytest.mark.parametrize("corner", [False, True])
@pytest.mark.parametrize(
    ("change", "looks"),
    [
        (lambda x: x / 255, r"looks like values in \[0, 1\]"),
        (lambda x: (x - 110) / 57, "looks normalised"),
        (lambda x: x - 110, "looks normalised"),
        (lambda x: x, None),
    ],
)
def test_padding_hides_no_wrong_values(pad, corner, change, looks):
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (3, 24, 32)).astype(np.float32))
    image = torch.nn.functional.pad(change(levels), (0, 32, 0, 24), value=pad)
    image = image[:, :24] if corner else image
    with pytest.raises(ImageError, match=looks) if looks else contextlib.nullcontext():
        check_levels([image])
