"""``MMDetFaceDetector`` finds faces by a detector of MMDetection, and refuses a detector without a class of faces."""

import copy
import os

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from llie_preproc.config_nodes import nodes
from llie_preproc.detection import add_enhancer
from llie_preproc.errors import CheckpointError
from llie_preproc.faces import MMDetFaceDetector
from tests.support.dsfd_models import build, tiny
from tests.support.mmdet_models import TestTimeDetector, mmdet_config

RESIZE = dict(type="Resize", scale=(200, 150), keep_ratio=True)
PACK = dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))


class _Plain(TestTimeDetector):
    """A detector whose detections are what its method ``find`` returns."""

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        for picture, sample in zip(batch_inputs, batch_data_samples, strict=True):
            factor = torch.tensor(sample.scale_factor).repeat(2)
            boxes, labels = self.find(picture)
            found = InstanceData(bboxes=boxes / factor, labels=labels)
            found.scores = torch.linspace(0.9, 0.3, len(labels))
            sample.pred_instances = found
        return batch_data_samples


@MODELS.register_module(force=True)
class SeenLevels(_Plain):
    """Finds one box whose numbers are the mean levels of the channels."""

    def find(self, picture):
        return torch.cat([picture.mean(dim=(1, 2)), torch.tensor([255.0])])[None], torch.zeros(1).long()


@MODELS.register_module(force=True)
class BrightChannels(_Plain):
    """Finds where each channel is bright; the label is the channel's number."""

    def find(self, picture):
        boxes = []
        for levels in picture:
            rows, columns = (levels > (levels.min() + levels.max()) / 2).nonzero().unbind(1)
            boxes.append(torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float())
        return torch.stack(boxes), torch.arange(3)


def config(model, steps=(), classes=("face",), **preprocessor):
    model = dict(type=model) if isinstance(model, str) else model
    model.setdefault("data_preprocessor", dict(type="DetDataPreprocessor", **preprocessor))
    load = [dict(type="LoadImageFromFile", backend_args=None)]
    dataset = dict(
        type="CocoDataset", metainfo=dict(classes=classes), ann_file="none.json", pipeline=[*load, *steps, PACK]
    )
    return Config(dict(model=model, test_dataloader=dict(dataset=dataset)))


def images():
    """Pictures of three sizes with a red, a green and a blue rectangle, and x1 y1 x2 y2 of each rectangle."""
    made, boxes = [], np.array([[8, 10, 40, 30], [50, 12, 70, 52], [20, 40, 44, 70]])
    for height, width in ((80, 100), (90, 76), (80, 100), (120, 160)):
        picture = np.full((height, width, 3), 20, np.uint8)
        for channel, (x1, y1, x2, y2) in enumerate(boxes):
            picture[y1:y2, x1:x2, channel] = 200
        made.append(picture)
    return made, boxes


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_the_detector_sees_what_mmdetection_would_load(swap, enhanced):
    cfg = config("SeenLevels", bgr_to_rgb=swap)
    cfg = add_enhancer(cfg, "Identity") if enhanced else cfg
    image = np.broadcast_to(np.array([10, 100, 200], np.uint8), (30, 50, 3))
    (faces,) = MMDetFaceDetector(cfg).detect([image])
    assert faces.boxes[0, :3].tolist() == pytest.approx([10, 100, 200] if swap else [200, 100, 10], abs=1e-3)


@pytest.mark.examples(9)
@pytest.mark.parametrize("classes", [("face",), ("blue", "face"), "red"])
@pytest.mark.parametrize("steps", [[], [RESIZE], [dict(type="Resize", scale=(64, 96), keep_ratio=False)]], ids=len)
@pytest.mark.parametrize("enhancer", [None, 1, 2, 4])
def test_boxes_of_the_classes_come_back_in_the_raw_frame(classes, steps, enhancer):
    names = ("red", "face", "blue")
    cfg = config("BrightChannels", steps, names, bgr_to_rgb=True, pad_size_divisor=32)
    if enhancer:
        cfg = add_enhancer(cfg, dict(type="Upscale", scale=enhancer, mode="nearest"))
    pictures, boxes = images()
    found = MMDetFaceDetector(cfg, classes=classes, batch_size=2).detect(pictures)
    wanted = [names.index(name) for name in names if name in ((classes,) if isinstance(classes, str) else classes)]
    assert len(found) == len(pictures)
    for faces in found:
        assert faces.boxes.dtype == faces.scores.dtype == np.float32
        np.testing.assert_allclose(faces.boxes, boxes[wanted], atol=2.5 if steps else 0)
        np.testing.assert_allclose(faces.scores, np.array([0.9, 0.6, 0.3])[wanted], rtol=1e-6)


@pytest.mark.parametrize("position", ["after_load", "before_pack"])
def test_boxes_behind_an_enlarging_transform_come_back_in_the_raw_frame(position):
    cfg = config("BrightChannels", [RESIZE], ("red", "face", "blue"), bgr_to_rgb=True)
    cfg = add_enhancer(cfg, dict(type="Upscale", scale=2, mode="nearest"), door="transform", position=position)
    pictures, boxes = images()
    for faces in MMDetFaceDetector(cfg).detect(pictures):
        np.testing.assert_allclose(faces.boxes, boxes[1:2], atol=2.5)


def test_scores_below_the_threshold_are_left_out():
    cfg = config("BrightChannels", (), ("red", "face", "blue"), bgr_to_rgb=True)
    pictures, boxes = images()
    every = ("red", "face", "blue")
    for threshold, count in ((0.0, 3), (0.5, 2), (0.9, 1), (0.95, 0)):
        faces = MMDetFaceDetector(cfg, classes=every, score_thr=threshold).detect(pictures[:1])[0]
        np.testing.assert_array_equal(faces.boxes, boxes[:count])


def checkpoint_of(cfg, path, classes, seed=0, **content):
    model = build(cfg.model, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The initial biases keep all scores near zero; biases of zero raise them.
            if "bias" in name and any(part in name for part in ("cls", "obj")):
                parameter.zero_()
    content.setdefault("meta", dict(dataset_meta=dict(classes=classes)))
    torch.save(dict(state_dict=model.state_dict(), **content), path)
    return str(path)


def textured(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (height, width, 3), np.uint8) for height, width in sizes]


def thin_dsfd():
    cfg = config(tiny(4), [RESIZE])
    cfg.model.test_cfg.score_thr = 0.0
    return cfg


def thin(name):
    """A detector of MMDetection's own, as thin as its structure allows, for pictures of 160 pixels."""
    if name == "dsfd":
        return thin_dsfd()
    cfg = mmdet_config(name)
    for node in nodes(cfg.model):
        if "feat_channels" in node:
            node.feat_channels = 16
        if "num_classes" in node:
            node.num_classes = 2
    if name == "yolox":
        cfg.model.backbone.widen_factor = 0.125
        cfg.model.neck.update(in_channels=[32, 64, 128], out_channels=16)
        cfg.model.bbox_head.in_channels = 16
    else:
        cfg.model.backbone.base_channels = cfg.model.backbone.stem_channels = 8
        cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
        for node in nodes(cfg.model):
            if node.get("in_channels") in (32, 256):
                node.in_channels = 16
            if "roi_layer" in node:
                node.out_channels = 16
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (160, 160)
    return cfg


@pytest.mark.examples(2)
@pytest.mark.parametrize("name", ["dsfd", "faster_rcnn", "retinanet", "yolox"])
def test_results_equal_those_of_mmdetections_own_inference(name, tmp_path):
    cfg = thin(name)
    classes = ("face",) if name == "dsfd" else ("thing", "face")
    path = checkpoint_of(cfg, tmp_path / "epoch_1.pth", classes)
    pictures = textured([(96, 128), (120, 90), (96, 128)])
    reference = init_detector(copy.deepcopy(cfg), path, device="cpu")
    total = 0
    for label, named in enumerate(classes):
        found = MMDetFaceDetector(cfg, path, classes=(named,), batch_size=2).detect(pictures)
        for picture, faces in zip(pictures, found, strict=True):
            expected = inference_detector(reference, np.ascontiguousarray(picture[..., ::-1])).pred_instances
            expected = expected[expected.labels == label]
            # Convolutions of two pictures round differently from convolutions of one.
            np.testing.assert_allclose(faces.boxes, expected.bboxes.numpy(), rtol=1e-3, atol=0.02)
            np.testing.assert_allclose(faces.scores, expected.scores.numpy(), atol=1e-4)
            total += len(faces)
    assert total > 0


def test_results_do_not_depend_on_the_other_pictures(tmp_path):
    cfg = thin_dsfd()
    detector = MMDetFaceDetector(cfg, checkpoint_of(cfg, tmp_path / "a.pth", ("face",)), batch_size=3)
    pictures = textured([(96, 128), (128, 96), (96, 128), (60, 200), (96, 128), (96, 128)])
    together = detector.detect(pictures)
    for picture, faces in zip(pictures, together, strict=True):
        (alone,) = detector.detect([picture])
        assert len(faces) > 0
        np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(faces.boxes, alone.boxes, atol=1e-2)
    assert detector.detect([]) == []


@pytest.mark.further
def test_a_config_of_mmdetection_takes_options():
    options = {
        "model.backbone.widen_factor": 0.125,
        "model.neck": dict(in_channels=[32, 64, 128], out_channels=16),
        "model.bbox_head": dict(num_classes=2, in_channels=16, feat_channels=16),
        "model.test_cfg": dict(score_thr=0.0, max_per_img=50),
        "test_dataloader.dataset.metainfo": dict(classes=("dog", "face")),
    }
    name = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
    detector = MMDetFaceDetector(name, cfg_options=options)
    every = MMDetFaceDetector(name, cfg_options=options, classes=("face", "dog"))
    every.model.load_state_dict(detector.model.state_dict())
    picture = textured([(64, 80)])
    faces, all_of_them = detector.detect(picture)[0], every.detect(picture)[0]
    assert 0 < len(faces) < len(all_of_them)
    assert set(faces.scores.tolist()) <= set(all_of_them.scores.tolist())
    assert not detector.model.training


def test_a_config_file_and_its_config_give_the_same_detector(tmp_path):
    cfg = thin_dsfd()
    cfg.dump(tmp_path / "dsfd.py")
    path = checkpoint_of(cfg, tmp_path / "a.pth", ("face",))
    before = copy.deepcopy(cfg._cfg_dict)
    pictures = textured([(96, 128)])
    one = MMDetFaceDetector(cfg, path).detect(pictures)[0]
    other = MMDetFaceDetector(tmp_path / "dsfd.py", path).detect(pictures)[0]
    np.testing.assert_array_equal(one.boxes, other.boxes)
    assert cfg._cfg_dict == before


@pytest.mark.parametrize("enhancer", ["Identity", dict(type="GammaCorrection", gamma=0.5)])
def test_a_plain_checkpoint_loads_behind_an_enhancer(enhancer, tmp_path):
    cfg = thin_dsfd()
    path = checkpoint_of(cfg, tmp_path / "a.pth", ("face",))
    pictures = textured([(96, 128)])
    plain = MMDetFaceDetector(cfg, path).detect(pictures)[0]
    found = MMDetFaceDetector(add_enhancer(cfg, enhancer), path).detect(pictures)[0]
    if enhancer == "Identity":
        np.testing.assert_array_equal(found.scores, plain.scores)
        np.testing.assert_array_equal(found.boxes, plain.boxes)
    else:
        assert not np.array_equal(found.scores, plain.scores)


def test_a_checkpoint_of_a_wrapped_model_loads(tmp_path):
    cfg = thin_dsfd()
    path = checkpoint_of(cfg, tmp_path / "a.pth", ("face",))
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {f"module.{name}": tensor for name, tensor in content["state_dict"].items()}
    torch.save(content, tmp_path / "b.pth")
    one, other = (MMDetFaceDetector(cfg, tmp_path / name).model.state_dict() for name in ("a.pth", "b.pth"))
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


def test_the_checkpoints_classes_count_before_the_configs(tmp_path):
    cfg = thin_dsfd()
    for content in (dict(), dict(meta=dict(CLASSES=("head",)))):
        path = checkpoint_of(cfg, tmp_path / "a.pth", ("head",), **content)
        with pytest.raises(ValueError, match="no class face; it has: head"):
            MMDetFaceDetector(cfg, path)
        assert MMDetFaceDetector(cfg, path, classes=("head",)).detect([]) == []
    path = checkpoint_of(cfg, tmp_path / "b.pth", None, meta={})
    assert MMDetFaceDetector(cfg, path).detect([]) == []


@pytest.mark.parametrize("name", ["Face", "human_face"])
def test_a_class_of_faces_may_be_spelled_otherwise(name):
    pictures, boxes = images()
    detector = MMDetFaceDetector(config("BrightChannels", (), ("red", name, "blue"), bgr_to_rgb=True))
    for faces in detector.detect(pictures):
        np.testing.assert_allclose(faces.boxes, boxes[[1]])


def test_an_unknown_class_is_refused_with_the_known_ones():
    cfg = config("BrightChannels", (), ("person", "dog", "cup"))
    with pytest.raises(ValueError, match=r"no class face; it has: person, dog, cup"):
        MMDetFaceDetector(cfg)
    # If the config has no names of classes, those of the dataset's type are used.
    del cfg.test_dataloader.dataset["metainfo"]
    with pytest.raises(ValueError, match=r"no class face; it has: person, bicycle, car, .*toothbrush"):
        MMDetFaceDetector(cfg)
    with pytest.raises(ValueError, match="classes must name at least one"):
        MMDetFaceDetector(cfg, classes=())


class _Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("damage", ["other network", "few tensors", "code", "no checkpoint"])
def test_checkpoints_that_do_not_fit_or_run_code_are_refused(damage, tmp_path):
    cfg = thin("retinanet")
    path = tmp_path / "a.pth"
    checkpoint_of(cfg, path, ("face",))
    content = torch.load(path, weights_only=True)
    if damage == "other network":
        content["state_dict"]["bbox_head.retina_cls.weight"] = torch.zeros(3, 3)
    elif damage == "few tensors":
        content["state_dict"] = {k: v for k, v in content["state_dict"].items() if k.startswith("neck")}
    elif damage == "code":
        content["meta"]["evil"] = _Evil()
    torch.save(content, path)
    if damage == "no checkpoint":
        path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        MMDetFaceDetector(cfg, path)


def test_a_few_missing_tensors_cause_a_warning(tmp_path):
    cfg = thin("retinanet")
    path = tmp_path / "a.pth"
    checkpoint_of(cfg, path, ("face",))
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["bbox_head.retina_cls.bias"]
    torch.save(content, path)
    with pytest.warns(UserWarning, match=r"a\.pth: \d+ of \d+ tensors matched; 1 missing \(bbox_head\.retina_cls"):
        MMDetFaceDetector(cfg, path)


def test_a_wrong_config_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such"):
        MMDetFaceDetector("no_such.py")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        MMDetFaceDetector(config("SeenLevels"), tmp_path / "none.pth")
    with pytest.raises(ValueError, match="mmdet::ssd/no_such"):
        MMDetFaceDetector("mmdet::ssd/no_such.py")
    (tmp_path / "broken.py").write_text("model = dict(")
    with pytest.raises(ValueError, match=r"broken\.py"):
        MMDetFaceDetector(tmp_path / "broken.py")
    for text, kind in (("_base_ = ['one.py', 'two.py']", "KeyError"), ("x = 1 / 0", "ZeroDivisionError")):
        (tmp_path / "one.py").write_text("model = dict(type='A')")
        (tmp_path / "two.py").write_text("model = dict(type='B')")
        (tmp_path / "odd.py").write_text(text)
        with pytest.raises(ValueError, match=rf"odd\.py: {kind}"):
            MMDetFaceDetector(tmp_path / "odd.py")
    (tmp_path / "odd.yaml").write_text("model: [1")
    with pytest.raises(ValueError, match=r"odd\.yaml: ParserError"):
        MMDetFaceDetector(tmp_path / "odd.yaml")
    (tmp_path / "importing.py").write_text(
        "custom_imports = dict(imports=['not_installed'], allow_failed_imports=False)"
    )
    with pytest.raises(ImportError, match="not_installed"):
        MMDetFaceDetector(tmp_path / "importing.py")
    with pytest.raises(TypeError, match="dict"):
        MMDetFaceDetector({"model": {}})
    with pytest.raises(ValueError, match="needs 'model' and 'test_dataloader'"):
        MMDetFaceDetector(Config(dict(model=dict(type="SeenLevels"))))
    cfg = config("SeenLevels")
    cfg.test_dataloader.dataset.pipeline[0].type = "LoadProposals"
    with pytest.raises(ValueError, match=r"one LoadImageFromFile, got \['LoadProposals', 'PackDetInputs'\]"):
        MMDetFaceDetector(cfg)


@pytest.mark.parametrize("options", [dict(score_thr=1.5), dict(score_thr=-0.1), dict(batch_size=0)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MMDetFaceDetector(config("SeenLevels"), **options)


def test_a_wrong_picture_is_refused_by_its_number():
    detector = MMDetFaceDetector(config("SeenLevels"))
    with pytest.raises(TypeError, match=r"image 1.*float32"):
        detector.detect([np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10, 3), np.float32)])


def test_the_default_scope_of_the_process_is_unchanged():
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmengine"):
        MMDetFaceDetector(config("SeenLevels"))
        assert DefaultScope.get_current_instance().scope_name == "mmengine"
