"""``FrozenDetector``: its features and scores are those of MMDetection's detector, and its weights never change."""

from __future__ import annotations

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmengine.config import Config

from llie_preproc.detection import add_enhancer
from llie_preproc.errors import CheckpointError
from tests.support.frozen_detectors import (
    MEAN,
    NAMES,
    RETINANET,
    STD,
    pictures_for,
    plain_detector,
    plain_features,
    tiny_model,
    write_detector,
)
from tests.support.mmdet_models import mmdet_config
from tests.support.networks import same
from tests.support.random_pictures import images
from training.feature_encoders import FrozenDetector


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Arguments of each tiny detector by name."""
    folder = tmp_path_factory.mktemp("detectors")
    return {name: write_detector(folder, name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_plain_detector(written, name):
    found = FrozenDetector(**written[name]).features(images(64, 80, 2))
    expected = plain_features(plain_detector(name), list(images(64, 80, 2)))
    assert len(found) == len(expected)
    for own, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-5)
    assert found[0].std() > 0


def test_pictures_reach_the_network_normalised_and_padded(written):
    """The input of the first layer, against the config's own numbers."""
    detector, seen = FrozenDetector(**written["retinanet"]), []
    detector.model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    picture = images(40, 60)
    detector.features(picture)
    expected = (255 * picture - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert seen[-1].shape == (1, 3, 64, 64)
    torch.testing.assert_close(seen[-1][..., :40, :60], expected, rtol=1e-4, atol=1e-4)
    assert (seen[-1][..., 40:, :] == 0).all()
    assert (seen[-1][..., 60:] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_logits_of_the_dense_head(written, name):
    detector, plain = FrozenDetector(**written[name]), plain_detector(name)
    features = plain_features(plain, list(images(64, 64, 2)))
    with torch.no_grad():
        found = detector.scores(features)
        answers = plain.rpn_head(features) if name == "faster_rcnn" else plain.bbox_head(features)
    channels = {"retinanet": [18] * 5, "yolox": [3] * 3 + [1] * 3, "faster_rcnn": [3] * 5}[name]
    assert [maps.shape[1] for maps in found] == channels
    expected = [*answers[0], *(answers[2] if name == "yolox" else [])]
    assert all(map(torch.equal, found, expected))


HEADS = {
    "mmdet::vfnet/vfnet_r50_fpn_1x_coco.py": [80] * 5,
    "mmdet::reppoints/reppoints-moment_r50_fpn_1x_coco.py": [80] * 5,
    "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py": [80] * 5 + [1] * 5,
    "mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py": [80] * 5 + [1] * 5,
    "mmdet::tood/tood_r50_fpn_1x_coco.py": None,
    "mmdet::detr/detr_r50_8xb2-150e_coco.py": None,
    "mmdet::ssd/ssd300_coco.py": None,
    "mmdet::solo/solo_r50_fpn_1x_coco.py": None,
}


@pytest.mark.slow(25)
@pytest.mark.parametrize("name", HEADS)
def test_boxes_points_and_masks_are_no_scores(name):
    """The third list of heads may refine boxes; TOOD returns probabilities, and others compare classes by softmax."""
    detector = FrozenDetector(config=name, checkpoint=None)
    with torch.no_grad():
        features = detector.features(images(320, 320))
        if HEADS[name] is None:
            with pytest.raises(ValueError, match=r"no dense head with logits .*: set score_weight=0"):
                detector.scores(features)
            return
        assert [maps.shape[1] for maps in detector.scores(features)] == HEADS[name]


def test_weights_take_no_gradient_and_norms_see_nothing(written):
    detector = FrozenDetector(**written["yolox"])
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    assert detector.train() is detector
    assert not any(module.training for module in detector.modules())
    picture = images(64, 64).requires_grad_()
    features = detector.features(picture)
    sum(maps.square().mean() for maps in [*features, *detector.scores(features)]).backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in detector.parameters())
    assert same(detector.state_dict(), before)


def test_levels_beyond_the_range_are_not_clamped(written):
    """A clamp would take the gradient from an output that is too bright."""
    picture = (images(64, 64) + 0.5).requires_grad_()
    detector = FrozenDetector(**written["retinanet"])
    detector.features(picture)[0].square().sum().backward()
    assert (picture.grad[picture > 1] != 0).float().mean() > 0.5


@pytest.mark.parametrize(("scales", "draw", "factor"), [((0.5, 0.5), 0.3, 0.5), ((0.5, 1.5), 0.25, 0.75),
                                                         ((0.5, 1.5), 0.9, 1.4), ((1.0, 1.0), 0.5, 1.0)])  # fmt: skip
def test_pictures_are_resized_as_opencv_resizes(written, scales, draw, factor):
    detector, batch = FrozenDetector(**written["retinanet"], scales=scales), images(40, 60, 2)
    resized = 255 * detector.resized(batch, draw).flip(1)
    expected = pictures_for(list(batch), factor)
    assert resized.shape[2:] == (round(40 * factor), round(60 * factor))
    assert (resized - torch.stack(expected)).abs().max() < 0.02


def test_tiny_pictures_keep_a_pixel(written):
    assert FrozenDetector(**written["retinanet"], scales=(0.1, 0.1)).resized(images(2, 3), 0.0).shape == (1, 3, 1, 1)


@pytest.mark.parametrize(("levels", "expected"), [(None, (0, 1, 2)), ((2,), (2,)), ([0, 2], (0, 2))])
def test_levels_are_chosen_by_number(written, levels, expected):
    assert FrozenDetector(**written["yolox"], levels=levels).levels == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (3,)}, "each of levels must be one of 0, 1, 2, got 3"),
        ({"levels": (-1,)}, "each of levels must be one of 0, 1, 2, got -1"),
        ({"levels": (True,)}, "each of levels must be one of 0, 1, 2, got True"),
        ({"levels": (0, 1, 0)}, r"levels must name each level once, got \(0, 1, 0\)"),
        ({"levels": 1}, "levels must be a sequence of numbers, got 1"),
        ({"levels": ()}, "the number of levels must be a whole number of at least 1, got 0"),
        ({"scales": (0.0, 1.0)}, r"scales must be a range \(low, high\), 0 < low <= high, got"),
        ({"scales": (1.0, 0.5)}, "scales must be a range"),
        ({"scales": 0.5}, "scales must be a range .* got 0.5"),
    ],
)
def test_invalid_settings_are_refused(written, options, message):
    with pytest.raises(ValueError, match=message):
        FrozenDetector(**written["yolox"], **options)


def test_pictures_that_are_too_small_for_a_detector_are_refused_by_their_size():
    """SSD's deepest layers need pictures of 300 pixels."""
    detector = FrozenDetector(config="mmdet::ssd/ssd300_coco.py", checkpoint=None)
    assert len(detector.features(images(300, 300))) == 6
    with pytest.raises(
        ValueError, match=r"^SingleStageDetector cannot take pictures of 200x128 pixels .* larger crops"
    ):
        detector.features(images(128, 200))


def test_options_replace_keys_of_the_config(written):
    cfg = Config(dict(model=RETINANET))
    detector = FrozenDetector(config=cfg, checkpoint=None, cfg_options={"model.neck.num_outs": 4})
    assert detector.levels == (0, 1, 2, 3)
    # The given config stays as it was.
    assert cfg.model.neck.num_outs == 5


def test_only_the_config_of_a_plain_detector_is_taken(tmp_path):
    with pytest.raises(ValueError, match="the config is not the config of a detector: it has no model"):
        FrozenDetector(config=Config(dict(other=1)), checkpoint=None)
    (tmp_path / "empty.py").write_text("train_cfg = None\n")
    with pytest.raises(ValueError, match=r"empty\.py is not the config of a detector: it has no model"):
        FrozenDetector(config=tmp_path / "empty.py", checkpoint=None)
    with pytest.raises(FileNotFoundError, match=r"absent\.py"):
        FrozenDetector(config=str(tmp_path / "absent.py"), checkpoint=None)


@pytest.mark.parametrize("door", ["transform", "preprocessor", "detector"])
def test_a_config_that_enhances_is_refused(door):
    enhanced = add_enhancer(mmdet_config("retinanet"), "psenet", door=door)
    with pytest.raises(ValueError, match=r"enhances already \(.*Enhance.*\): name the plain config"):
        FrozenDetector(config=enhanced, checkpoint=None)


def test_a_checkpoint_must_exist_and_fit(written, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        FrozenDetector(config=written["yolox"]["config"], checkpoint=str(tmp_path / "absent.pth"))
    with pytest.raises(CheckpointError, match=r"yolox\.pth is not a checkpoint of this RetinaNet"):
        FrozenDetector(config=written["retinanet"]["config"], checkpoint=written["yolox"]["checkpoint"])
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"damaged\.pth"):
        FrozenDetector(config=written["yolox"]["config"], checkpoint=str(tmp_path / "damaged.pth"))


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="weights"):
        FrozenDetector(config=Config(dict(model=tiny_model("yolox"))), checkpoint=None, weights="a.pth")
