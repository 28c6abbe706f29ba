"""Batches of branches, clips and views are flattened and rebuilt, and ``EnhancedDetector`` handles their models."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("benchmarks.mmdet_zoo", reason="the benchmarks are found from the repository's root")

import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmdet.models import DetTTAModel
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from benchmarks.mmdet_zoo import CONFIGS, check_gradients, load, made_batch
from llie_preproc.detection.nested_inputs import flatten
from tests.support.mmdet_models import MODELS, build, mmdet_config, narrow_pyramid, raw_batch

MERGING = ConfigDict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=50)
UPSCALE = {"type": "Upscale", "scale": 2, "mode": "nearest"}
SOFT_TEACHER = "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py"
QDTRACK = "qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py"
MASKTRACK = "masktrack_rcnn/masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019.py"
MASK_RCNN = "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
PANOPTIC = "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"
BOXINST = "boxinst/boxinst_r50_fpn_ms-90k_coco.py"


def image(value, height=4, width=6):
    return torch.full((3, height, width), value)


def sample(name):
    return DetDataSample(metainfo=dict(img_id=name))


def clip(*names):
    track = TrackDataSample(metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]))
    track.video_data_samples = [sample(n) for n in names]
    return track


STRUCTURES = {
    "list": ([image(0), image(1, 5)], [sample(0), sample(1)]),
    "tuple": ((image(0), image(1, 5)), (sample(0), sample(1))),
    "stacked": (torch.stack([image(0), image(1)]), [sample(0), sample(1)]),
    "branches": (
        {"sup": [image(0), None, None], "teacher": [None, image(1), image(2, 8)]},
        {"sup": [sample(0), None, None], "teacher": [None, sample(1), sample(2)]},
    ),
    "branches in another order": (
        {"sup": [image(0)], "teacher": [image(1)]},
        {"teacher": [sample(1)], "sup": [sample(0)]},
    ),
    "clips": ([torch.stack([image(0), image(1)]), torch.stack([image(2, 7)] * 2)], [clip(0, 1), clip(2, 2)]),
    "stacked clips": (torch.stack([torch.stack([image(0), image(1)])]), [clip(0, 1)]),
}


def described(node):
    """The layout of a structure: shapes and names, each at its place."""
    if isinstance(node, dict):
        return {key: described(value) for key, value in node.items()}
    if isinstance(node, torch.Tensor):
        return tuple(node.shape), node.flatten(-3)[..., 0].tolist()
    if isinstance(node, TrackDataSample):
        return node.key_frames_inds, node.ref_frames_inds, [s.img_id for s in node.video_data_samples]
    if isinstance(node, list | tuple):
        return [described(value) for value in node]
    return node.img_id if isinstance(node, DetDataSample) else node


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("with_samples", [False, True])
def test_a_batch_is_rebuilt_as_it_was(name, with_samples):
    inputs, samples = STRUCTURES[name]
    batch = flatten(inputs, samples if with_samples else None)
    assert all(i.shape[0] == 3 and i.ndim == 3 for i in batch.images)
    assert (batch.samples is not None) == with_samples
    if with_samples:
        assert [s.img_id for s in batch.samples] == [int(i[0, 0, 0]) for i in batch.images]
    back, samples_back = batch.rebuild(batch.images, batch.samples)
    assert described(back) == described(inputs)
    assert described(samples_back) == (described(samples) if with_samples else None)


@pytest.mark.parametrize("name", STRUCTURES)
def test_new_images_and_samples_take_the_places_of_the_old_ones(name):
    inputs, samples = STRUCTURES[name]
    before = described(inputs), described(samples)
    batch = flatten(inputs, samples)
    larger = [i.repeat(1, 2, 2) + 10 for i in batch.images]
    named = [sample(s.img_id + 10) for s in batch.samples]
    again = flatten(*batch.rebuild(larger, named))
    assert [tuple(i.shape) for i in again.images] == [tuple(i.shape) for i in larger]
    assert [int(i[0, 0, 0]) for i in again.images] == [s.img_id for s in again.samples] == [s.img_id for s in named]
    assert before == (described(inputs), described(samples))


@pytest.mark.parametrize(
    "inputs",
    [None, [], {}, {"sup": [None]}, [torch.zeros(4, 5)], torch.zeros(2, 1, 4, 4), [image(0), "a.jpg"], {"a": "b"}],
    ids=str,
)
def test_inputs_without_colour_images_are_refused(inputs):
    with pytest.raises(TypeError, match="raw colour images"):
        flatten(inputs, None)


@pytest.mark.parametrize("samples", [[sample(0)], [sample(0), "b"], clip(0, 1, 2)], ids=["fewer", "other", "more"])
def test_each_image_needs_one_sample(samples):
    with pytest.raises(ValueError, match="one for each of the 2 images"):
        flatten([image(0), image(1)], samples)


def test_rebuilding_needs_as_many_images_and_samples_as_before():
    batch = flatten([image(0), image(1)], None)
    with pytest.raises(ValueError, match="images must be 2"):
        batch.rebuild([image(0)], None)
    with pytest.raises(ValueError, match="samples must be 0"):
        batch.rebuild(batch.images, [sample(0), sample(1)])


def pair(config, enhancer, trainable=False):
    """A detector, the same detector behind an enhancer, and their config."""
    model = load(CONFIGS / config).model
    narrow_pyramid(model)
    plain = build(model)
    wrapper = {"type": "llie_preproc.EnhancedDetector", "detector": model, "enhancer": enhancer, "trainable": trainable}
    enhanced = MODELS.build(wrapper)
    enhanced.detector.load_state_dict(plain.state_dict())
    return plain, enhanced, model


def losses(model, batch):
    torch.manual_seed(1)
    np.random.seed(1)
    data = model.train().data_preprocessor(copy.deepcopy(batch), True)
    return model(**data, mode="loss")


@pytest.fixture(autouse=True)
def _an_iteration(monkeypatch):
    """BoxInst asks the message hub for the iteration."""
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, "iter", 1)


def flat(values):
    return {k: [v] if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def found(model, batch):
    with torch.no_grad():
        return model.eval().test_step(copy.deepcopy(batch))


def same(a, b):
    """Whether two results hold the same tensors and arrays."""
    if isinstance(a, TrackDataSample):
        return all(same(x, y) for x, y in zip(a.video_data_samples, b.video_data_samples, strict=True))
    if isinstance(a, DetDataSample | InstanceData | PixelData):
        return set(a.keys()) == set(b.keys()) and all(same(a.get(key), b.get(key)) for key in a.keys())  # noqa: SIM118
    if isinstance(a, BitmapMasks):
        return np.array_equal(a.masks, b.masks)
    return torch.equal(torch.as_tensor(a), torch.as_tensor(b))


@pytest.mark.examples(1)
@pytest.mark.parametrize("config", [SOFT_TEACHER, QDTRACK, MASKTRACK, PANOPTIC], ids=lambda c: c.split("/")[0])
def test_the_identity_changes_nothing(config):
    plain, enhanced, model = pair(config, "Identity")
    train, test = (made_batch(model, training) for training in (True, False))
    expected, ours = flat(losses(plain, train)), flat(losses(enhanced, train))
    assert expected.keys() == ours.keys()
    assert all(torch.equal(a, b) for key in ours for a, b in zip(expected[key], ours[key], strict=True))
    assert all(same(a, b) for a, b in zip(found(plain, test), found(enhanced, test), strict=True))


@pytest.mark.examples(1)
@pytest.mark.parametrize("config", [SOFT_TEACHER, QDTRACK, MASKTRACK, BOXINST], ids=lambda c: c.split("/")[0])
def test_the_losses_reach_the_enhancer(config):
    _, enhanced, model = pair(config, "PSENet", trainable=True)
    total, _ = enhanced.parse_losses(losses(enhanced, made_batch(model, True)))
    total.backward()
    check_gradients(enhanced.enhancer)
    if config == SOFT_TEACHER:
        assert all(p.grad is None for p in enhanced.detector.teacher.parameters())


def test_the_teacher_follows_the_student():
    """MMDetection's hook finds the parts of the wrapped detector, and an enhancer's parameters do not confuse it."""
    _, enhanced, _ = pair(SOFT_TEACHER, "PSENet", trainable=True)
    hook, runner = MeanTeacherHook(momentum=0.25), SimpleNamespace(model=enhanced, iter=0)
    hook.before_train(runner)
    student, teacher = (next(m.roi_head.parameters()) for m in (enhanced.student, enhanced.teacher))
    assert torch.equal(student, teacher)
    before = teacher.clone()
    with torch.no_grad():
        student += 1
    hook.after_train_iter(runner, 0)
    assert torch.allclose(teacher, before + 0.25)


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    ("config", "field"),
    [
        (MASK_RCNN, lambda s: s.pred_instances.masks),
        (PANOPTIC, lambda s: s.pred_panoptic_seg.sem_seg),
        (MASKTRACK, lambda s: s[1].pred_track_instances.masks),
    ],
    ids=["mask_rcnn", "panoptic_fpn", "masktrack_rcnn"],
)
def test_masks_come_out_in_the_raw_frame(config, field):
    """An enlarging enhancer's losses are finite on enlarged masks, and predictions have the raw size."""
    _, enhanced, model = pair(config, UPSCALE)
    assert all(
        v.isfinite().all() for values in flat(losses(enhanced, made_batch(model, True))).values() for v in values
    )
    batch = made_batch(model, False)
    masks = field(found(enhanced, batch)[0])
    assert len(masks)
    assert masks.shape[-2:] == batch["inputs"][0].shape[-2:]


def views(seed=0):
    """A picture and its mirror image, as MMDetection's pipeline for test-time augmentation gives them."""
    batch = raw_batch([(96, 128)], seed)
    (picture,), (truth,) = batch["inputs"], batch["data_samples"]
    truth.set_metainfo(dict(flip=False, flip_direction=None))
    mirrored = copy.deepcopy(truth)
    mirrored.set_metainfo(dict(flip=True, flip_direction="horizontal"))
    return {"inputs": [[picture], [picture.flip(-1)]], "data_samples": [[truth], [mirrored]]}


def augmented(detector):
    detector = detector.eval()
    return DetTTAModel(tta_cfg=MERGING, module=detector).eval()


def test_test_time_augmentation_enhances_each_view():
    model = mmdet_config("faster_rcnn").model
    plain = build(model)
    wrap = {"type": "llie_preproc.EnhancedDetector", "detector": model}
    gamma = {"type": "GammaCorrection", "gamma": 0.4}
    results = {}
    for name, enhancer in (("identity", "Identity"), ("gamma", gamma)):
        detector = MODELS.build({**wrap, "enhancer": enhancer})
        detector.detector.load_state_dict(plain.state_dict())
        results[name] = augmented(detector).test_step(views())[0].pred_instances
    expected = augmented(plain).test_step(views())[0].pred_instances
    assert len(expected)
    assert same(results["identity"], expected)

    bright = views()
    for view in bright["inputs"]:
        view[0] = 255 * (view[0].float() / 255) ** 0.4
    brightened = augmented(plain).test_step(bright)[0].pred_instances
    assert torch.allclose(results["gamma"].bboxes, brightened.bboxes, atol=1e-3)
    assert torch.allclose(results["gamma"].scores, brightened.scores, atol=1e-5)
    assert not same(results["gamma"], expected)
