"""Public checkpoints of the face detector DSFD load and give the detections of a plain forward pass, or are refused."""

import copy

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_checkpoint
from mmengine.structures import InstanceData

from llie_preproc.errors import CheckpointError
from llie_preproc.faces import MMDetFaceDetector
from llie_preproc.faces.dsfd import convert_public
from tests.support.dsfd_files import (
    MEANS,
    detections,
    fill,
    paper_outputs,
    paper_resnet_shapes,
    paper_vgg_shapes,
    release_outputs,
    release_shapes,
    release_vgg_shapes,
)
from tests.support.dsfd_models import (
    MODELS,
    build,
    paper_resnet,
    paper_vgg,
    raw_batch,
    release_resnet,
    release_vgg,
    thin_release_vgg,
    tiny,
    tiny_release,
)


def assert_same_detections(found, expected, at_least=20):
    boxes, scores = expected
    assert len(found) == len(scores) >= at_least
    assert float(scores.max() - scores.min()) > 0.1
    torch.testing.assert_close(found.scores.double(), scores, rtol=1e-3, atol=1e-4)
    # Two faces of nearly equal scores may change places.
    distance = torch.cdist(found.bboxes.double(), boxes).min(1).values
    assert float(distance.max()) < 0.05


def loaded(model, state, path):
    """The detector with the file's weights, loaded as MMEngine's ``load_from`` loads them."""
    torch.save(state, path)
    detector = build(model, seed=9)
    load_checkpoint(detector, str(path), map_location="cpu")
    return detector


@pytest.mark.parametrize(
    ("model", "shapes"),
    [(tiny_release(4), release_shapes(4, 50)), (thin_release_vgg(4), release_vgg_shapes(4))],
    ids=["ResNet", "VGG"],
)
def test_a_release_file_gives_the_detections_of_a_plain_forward_pass(model, shapes, tmp_path):
    state = fill(shapes)
    detector = loaded(model, state, tmp_path / "release.pth")
    batch = raw_batch([(118, 154)])
    expected = detections(release_outputs(state, batch["inputs"][0][None].float() - MEANS), 118, 154, 1.5, True, 0.01)
    (sample,) = detector.test_step(batch)
    assert_same_detections(sample.pred_instances, expected)


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_a_paper_like_file_gives_the_detections_of_a_plain_forward_pass(ratio, tmp_path):
    state = fill(paper_vgg_shapes(8))
    model = tiny(8)
    coder = dict(type="mmdet.DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)
    model["bbox_head"].update(anchor_ratio=ratio, bbox_coder=coder)
    detector = loaded(model, {"weight": state, "epoch": 3}, tmp_path / "paper.pth")
    batch = raw_batch([(118, 154)])
    image = batch["inputs"][0][None].float() - MEANS
    (sample,) = detector.test_step(batch)
    assert_same_detections(sample.pred_instances, detections(paper_outputs(state, image), 118, 154, ratio, False, 0.05))


@pytest.mark.parametrize(
    ("model", "shapes", "tensors"),
    [
        (release_resnet(152), release_shapes(64, 152), 1126),
        (release_resnet(50), release_shapes(64, 50), None),
        (release_vgg(), release_vgg_shapes(), None),
        (paper_vgg(), paper_vgg_shapes(), None),
        (paper_resnet(101), paper_resnet_shapes(101), None),
    ],
    ids=["release R152", "release R50", "release VGG", "paper-like VGG", "paper-like R101"],
)
def test_every_tensor_of_a_whole_file_has_its_place(model, shapes, tensors):
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert tensors in (None, len(state))
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert len(counters) == (159 if tensors else len(counters))
    with torch.device("meta"):
        detector = MODELS.build(model)
    own = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    converted = convert_public(state)
    assert {name: tensor.shape for name, tensor in converted.items()} == own
    # Equal lengths prove that each tensor is converted once.
    assert len(converted) == len(state)


def test_background_channels_are_moved_behind_the_faces():
    shapes = release_shapes(4, 50)
    state = fill(shapes)
    for level, names in enumerate(
        (["b", "b", "b", "f"], ["f", "f", "f", "b", "b2", "f2"], ["f", "f", "f", "b", "b2", "f2", "b3", "f3"])
    ):
        codes = {"f": 1.0, "b": -1.0, "f2": 2.0, "b2": -2.0, "f3": 3.0, "b3": -3.0}
        state[f"conf.{level}.conv4.bias"] = torch.tensor([codes[n] for n in names])
    converted = convert_public(state)
    biases = [converted[f"bbox_head.deep.cls.{level}.6.bias"].tolist() for level in range(3)]
    assert biases[0] == [1, -1, -1, -1]
    assert biases[1] == [1, 1, 1, -1, 2, -2]
    assert biases[2] == [1, 1, 1, -1, 2, -2, 3, -3]


def test_files_of_torch_0_3_load_with_and_without_a_module_prefix():
    state = fill(release_shapes(4, 50))
    old = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    detectors = [build(tiny_release(4), seed=seed) for seed in (1, 2)]
    detectors[0].load_state_dict(copy.deepcopy(old), strict=True)
    detectors[1].load_state_dict(state, strict=True)
    for a, b in zip(detectors[0].parameters(), detectors[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_both_ways_of_inference_take_a_public_file(tmp_path):
    state = fill(release_shapes(4, 50))
    torch.save(state, tmp_path / "public.pth")
    pipeline = [
        dict(type="mmdet.LoadImageFromFile"),
        dict(type="mmdet.Resize", scale=(128, 96), keep_ratio=True),
        dict(type="mmdet.PackDetInputs", meta_keys=("ori_shape", "img_shape", "scale_factor")),
    ]
    loader = dict(dataset=dict(type="CocoDataset", metainfo=dict(classes=("face",)), pipeline=pipeline))
    config = Config(dict(model=tiny_release(4), default_scope="mmdet", test_dataloader=loader))
    # MMDetection's inference changes the config that it gets.
    detector = init_detector(copy.deepcopy(config), str(tmp_path / "public.pth"), palette="random", device="cpu")
    bgr = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    image = torch.from_numpy(bgr.transpose(2, 0, 1).astype(np.float32)) - MEANS
    expected = detections(release_outputs(state, image[None]), 96, 128, 1.5, True, 0.01)
    assert_same_detections(inference_detector(detector, bgr).pred_instances, expected)
    (faces,) = MMDetFaceDetector(config, tmp_path / "public.pth").detect([np.ascontiguousarray(bgr[..., ::-1])])
    found = InstanceData(bboxes=torch.from_numpy(faces.boxes), scores=torch.from_numpy(faces.scores))
    assert_same_detections(found, expected)


def test_a_detectors_own_checkpoint_loads():
    first, second = build(tiny(), seed=1), build(tiny(), seed=2)
    second.load_state_dict(first.state_dict(), strict=True)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_averaged_weights_load():
    """MMEngine's EMAHook loads averaged weights in this way, through a module around the detector."""
    first, second = (ExponentialMovingAverage(build(tiny(), seed=seed)) for seed in (1, 2))
    second.load_state_dict(first.state_dict(), strict=True)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def missing_one(state):
    del state["smooth2.weight"]


def wrong_shape(state):
    state["latlayer1.weight"] = torch.zeros(3, 3, 1, 1)


def another_tensor(state):
    state["bup3.weight"] = torch.zeros(3)


def three_classes(state):
    state["conf.2.conv4.bias"] = torch.zeros(12)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing_one, "neck.up_path.lateral.1.weight"),
        (wrong_shape, "neck.up_path.down.0.weight"),
        (another_tensor, "bup3.weight"),
        (three_classes, "12 class channels"),
    ],
)
def test_a_public_file_that_does_not_fit_is_an_error(spoil, said):
    state = fill(release_shapes(4, 50))
    spoil(state)
    with pytest.raises(CheckpointError, match=said):
        build(tiny_release(4)).load_state_dict(state, strict=False)


def test_a_file_of_another_backbone_or_network_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="release DSFD layout"):
        build(tiny_release(4)).load_state_dict(fill(release_shapes(4, 101)), strict=False)
    with pytest.raises(CheckpointError, match="0 of"):
        loaded(tiny(), {"backbone.stem.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a public DSFD checkpoint"):
        convert_public({"backbone.stem.weight": torch.zeros(3)})


def test_a_public_file_does_not_change_the_enhancer_in_the_preprocessor():
    model = tiny_release(4)
    model["data_preprocessor"] = dict(
        model["data_preprocessor"], type="llie_preproc.EnhancedDetDataPreprocessor", enhancer="ZeroDCE", checkpoint=None
    )
    detector = build(model)
    before = copy.deepcopy(detector.data_preprocessor.state_dict())
    detector.load_state_dict(fill(release_shapes(4, 50)), strict=False)
    after = detector.data_preprocessor.state_dict()
    assert before
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_public_file_loads_through_the_wrapper_with_an_enhancer():
    state = fill(release_shapes(4, 50))
    plain = build(tiny_release(4))
    plain.load_state_dict(state, strict=False)
    wrapped = build(dict(type="llie_preproc.EnhancedDetector", detector=tiny_release(4), enhancer="Identity"))
    wrapped.load_state_dict(state, strict=False)
    own = wrapped.detector.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in plain.state_dict().items())
    with pytest.raises(CheckpointError, match="release DSFD layout"):
        wrapped.load_state_dict(fill(release_shapes(4, 101)), strict=False)
