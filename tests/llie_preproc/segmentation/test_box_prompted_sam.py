"""``BoxPromptedSAM`` gives segment-anything's own masks in every frame, and an enhancer can be trained through it."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from segment_anything import SamPredictor
from torch.nn import functional as F

from llie_preproc.detection import EnhancedDetector
from llie_preproc.enhancers import GammaCorrection, Upscale
from llie_preproc.errors import MissingExtraError
from llie_preproc.segmentation import EnhancedSamPredictor
from llie_preproc.segmentation.box_prompted import BoxPromptedSAM
from llie_preproc.segmentation.mask_loss import mask_losses
from tests.support.mmdet_models import PERFECT, PerfectDetector
from tests.support.sam_models import TINY, BrightnessSam, picture, tiny_sam


def sample_of(shape, boxes, raw_shape=None, masks=None, **meta):
    """A packed sample of an image, with boxes in the image's pixels."""
    raw_shape = raw_shape or shape
    factor = shape[1] / raw_shape[1], shape[0] / raw_shape[0]
    sample = DetDataSample(metainfo=dict(img_id=1, img_shape=shape, ori_shape=raw_shape, scale_factor=factor, **meta))
    boxes = torch.as_tensor(boxes, dtype=torch.float).reshape(-1, 4)
    sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(boxes), labels=torch.arange(len(boxes)) % 3)
    if masks is not None:
        sample.gt_instances.masks = BitmapMasks(masks, *shape)
    return sample


def tensor_of(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def found_by(model, image, sample, **options):
    data = model.data_preprocessor({"inputs": [tensor_of(image)], "data_samples": [sample]}, False)
    (found,) = model.predict(data["inputs"], data["data_samples"], **options)
    return found.pred_instances


def random_boxes(rng, number, height, width):
    corners = rng.uniform(0, 1, (number, 2, 2)) * [width, height]
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def mask_iou(a, b):
    return (a & b).sum() / (a | b).sum()


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    number=st.integers(1, 5),
    several=st.booleans(),
    order=st.sampled_from(["bgr", "rgb"]),
    seed=st.integers(0, 99),
)
def test_labelled_boxes_get_the_masks_of_sam_predictor(height, width, number, several, order, seed):
    sam, image = tiny_sam(), picture(seed, height, width)
    boxes = random_boxes(np.random.default_rng(seed), number, height, width)
    model = BoxPromptedSAM(sam=sam, multimask_output=several, boxes_per_batch=1, channel_order=order).eval()
    found = found_by(model, image, sample_of((height, width), boxes))
    predictor = SamPredictor(sam)
    predictor.set_image(image, order.upper())
    for index, box in enumerate(boxes):
        masks, ious, _ = predictor.predict(box=box, multimask_output=several)
        np.testing.assert_array_equal(found.masks[index].numpy(), masks[ious.argmax()])
        assert found.scores[index] == ious.max()
    np.testing.assert_array_equal(found.bboxes.numpy(), boxes)
    assert found.labels.tolist() == [i % 3 for i in range(number)]


@pytest.mark.parametrize("per_batch", [1, 2, 64])
def test_boxes_are_decoded_in_batches(per_batch):
    sam, image, shape = tiny_sam(), picture(0, 50, 70), (50, 70)
    boxes = random_boxes(np.random.default_rng(1), 5, *shape)
    found = found_by(BoxPromptedSAM(sam=sam, boxes_per_batch=per_batch), image, sample_of(shape, boxes))
    predictor = SamPredictor(sam)
    predictor.set_image(image, "BGR")
    prompts = predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), shape)
    together, ious, _ = predictor.predict_torch(None, None, prompts, multimask_output=False)
    assert (found.masks != together[:, 0]).float().mean() < 1e-3
    torch.testing.assert_close(found.scores, ious[:, 0])


@pytest.mark.parametrize("detector", [None, PERFECT], ids=["labels", "detector"])
@pytest.mark.parametrize(("factor", "padding"), [(1, 0), (2, 0), (2, 10), (0.5, 0), (0.5, 13)])
def test_masks_of_a_resized_and_padded_image_are_right_in_both_frames(factor, padding, detector):
    raw = np.zeros((48, 64, 3), np.uint8)
    raw[10:30, 20:46] = 255
    step = np.ones((2, 2, 1), np.uint8)
    image = np.kron(raw, step) if factor == 2 else raw[:: int(1 / factor), :: int(1 / factor)]
    image = np.pad(image, ((0, padding), (0, padding), (0, 0)), constant_values=114)
    shape = image.shape[:2]
    sample = sample_of(shape, np.multiply([[20, 10, 46, 30]], factor), raw.shape[:2])
    sample.set_metainfo(dict(scale_factor=(factor, factor)))
    model = BoxPromptedSAM(detector, BrightnessSam(64)).eval()
    found = found_by(model, image, copy.deepcopy(sample))
    # From an image of half the size, the border of the mask is interpolated.
    least = 1.0 if factor >= 1 else 0.9
    assert found.masks.shape == (1, 48, 64)
    assert mask_iou(found.masks[0].numpy(), raw[..., 0] > 0) >= least
    assert found.bboxes.tolist() == [[20, 10, 46, 30]]
    framed = found_by(model, image, copy.deepcopy(sample), rescale=False)
    assert framed.masks.shape == (1, *shape)
    assert framed.bboxes.tolist() == [[v * factor for v in (20, 10, 46, 30)]]
    assert mask_iou(framed.masks[0].numpy(), image[..., 0] > 200) >= 0.9


def test_logits_are_resampled_once():
    """Logits are resampled from SAM's frame directly to the raw frame, without a step to the image's frame."""
    sam, image, raw_shape = tiny_sam(), picture(3, 40, 60), (100, 150)
    box = [10.0, 5.0, 45.0, 33.0]
    found = found_by(BoxPromptedSAM(sam=sam), image, sample_of((40, 60), [box], raw_shape))
    predictor = SamPredictor(sam)
    predictor.set_image(image, "BGR")
    _, _, low = predictor.predict(box=np.array(box), multimask_output=False)
    once = sam.postprocess_masks(torch.from_numpy(low)[None], predictor.input_size, raw_shape)[0] > 0
    assert torch.equal(found.masks, once)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("detector", [None, PERFECT], ids=["labels", "detector"])
def test_masks_behind_an_enlarging_enhancer_are_in_the_raw_frame(scale, detector):
    image = np.zeros((48, 64, 3), np.uint8)
    image[11:30, 20:45] = 255
    inner = dict(type="llie_preproc.BoxPromptedSAM", detector=detector, sam=dict(model="small", **TINY))
    model = EnhancedDetector(inner, Upscale(scale, "nearest")).eval()
    model.detector.sam = BrightnessSam(64)
    found = found_by(model, image, sample_of((48, 64), [[20, 11, 45, 30]]))
    np.testing.assert_array_equal(found.masks[0].numpy(), image[..., 0] > 0)
    assert found.bboxes.tolist() == [[20, 11, 45, 30]]


def test_sam_sees_the_enhanced_picture_rounded_as_if_stored():
    sam, image, enhancer = tiny_sam(), picture(4, 50, 64), GammaCorrection(gamma=0.4)
    model = EnhancedDetector(dict(type="llie_preproc.BoxPromptedSAM", sam=dict(model="small", **TINY)), enhancer)
    model.detector.sam.load_state_dict(sam.state_dict())
    box = [8.0, 9.0, 40.0, 37.0]
    found = found_by(model.eval(), image, sample_of((50, 64), [box]))
    predictor = EnhancedSamPredictor(sam, enhancer)
    predictor.set_image(image, "BGR")
    masks, ious, _ = predictor.predict(box=np.array(box), multimask_output=False)
    np.testing.assert_array_equal(found.masks.numpy(), masks)
    np.testing.assert_array_equal(found.scores.numpy(), ious)


@pytest.mark.parametrize("detector", [None, PERFECT], ids=["labels", "detector"])
def test_an_image_without_boxes_has_no_masks(detector):
    model = BoxPromptedSAM(detector, BrightnessSam(64)).eval()
    found = found_by(model, picture(0, 30, 50), sample_of((30, 50), []))
    assert found.masks.shape == (0, 30, 50)
    assert found.masks.dtype == torch.bool
    assert len(found.scores) == len(found.labels) == len(found.bboxes) == 0
    assert model.sam.image_encoder.calls == 0


def labelled_batch(number=2):
    """A batch of an image as large as SAM's input, with the boxes and masks of its rectangles."""
    shape, rng = (48, 64), np.random.default_rng(0)
    masks = np.zeros((number, *shape), np.uint8)
    boxes = [[4 + 5 * i, 6 + i, 30 + 5 * i, 40 - i] for i in range(number)]
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    image = torch.from_numpy(rng.integers(0, 120, (3, *shape), dtype=np.uint8))
    return {"inputs": [image], "data_samples": [sample_of(shape, boxes, masks=masks)]}, boxes, masks


def test_the_losses_are_those_of_sams_logits():
    sam = tiny_sam()
    batch, boxes, masks = labelled_batch()
    losses = BoxPromptedSAM(sam=sam).train().loss(batch["inputs"], batch["data_samples"])
    with torch.no_grad():
        embedding = sam.image_encoder(sam.preprocess(batch["inputs"][0].flip(0).float()[None]))
        sparse, dense = sam.prompt_encoder(points=None, boxes=torch.tensor(boxes).float(), masks=None)
        low, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
        logits = sam.postprocess_masks(low, (48, 64), (48, 64))[:, 0].double().numpy()
    found, wanted = 1 / (1 + np.exp(-logits)), masks.astype(float)
    bce = -(wanted * np.log(found) + (1 - wanted) * np.log1p(-found)).mean()
    above, below = 2 * (found * wanted).sum((1, 2)) + 1, (found**2 + wanted**2).sum((1, 2)) + 1
    assert losses.keys() == {"loss_mask_bce", "loss_mask_dice"}
    assert float(losses["loss_mask_bce"]) == pytest.approx(bce, rel=1e-3)
    assert float(losses["loss_mask_dice"]) == pytest.approx((1 - above / below).mean(), rel=1e-3)


def test_each_mask_counts_equally_in_the_losses():
    """Losses of two images are averaged over the masks of both, and an image without masks does not change them."""
    model = BoxPromptedSAM(sam=tiny_sam())
    one, three = labelled_batch(1)[0], labelled_batch(3)[0]
    empty = [sample_of((48, 64), [], masks=np.zeros((0, 48, 64), np.uint8))]
    each = [model.loss(b["inputs"], b["data_samples"]) for b in (one, three)]
    both = model.loss(
        one["inputs"] + three["inputs"] + one["inputs"], one["data_samples"] + three["data_samples"] + empty
    )
    for name, value in both.items():
        torch.testing.assert_close(value, (each[0][name] + 3 * each[1][name]) / 4)
    nothing = model.loss(one["inputs"], empty)
    assert {float(value) for value in nothing.values()} == {0.0}


def test_an_enhancer_learns_through_the_frozen_sam():
    inner = dict(type="llie_preproc.BoxPromptedSAM", sam=dict(model="small", **TINY), boxes_per_batch=2)
    torch.manual_seed(0)
    model = EnhancedDetector(inner, "PSENet", checkpoint=None, trainable=True).train()
    model.detector.sam.load_state_dict(tiny_sam().state_dict())
    before = copy.deepcopy(model.detector.sam.state_dict())
    assert not model.detector.sam.training
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    totals = []
    for _ in range(4):
        batch = labelled_batch()[0]
        total, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.enhancer.parameters())
    assert sum(float(p.grad.abs().sum()) for p in model.enhancer.parameters()) > 0
    assert all(p.grad is None for p in model.detector.sam.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.detector.sam.state_dict().items())
    many = labelled_batch(3)[0]
    assert all(value.isfinite() for value in model(**model.data_preprocessor(many, True), mode="loss").values())


@given(st.integers(0, 99), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_mask_losses_are_smallest_at_their_soft_target(seed, number):
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(number, 5, 7, generator=rng, dtype=torch.float64).requires_grad_()
    at_target = mask_losses(logits, logits.detach().sigmoid())
    other = mask_losses(logits + torch.randn(number, 5, 7, generator=rng), logits.detach().sigmoid())
    (gradient,) = torch.autograd.grad(sum(at_target.values()), logits)
    assert at_target["dice"].detach() == pytest.approx(0, abs=1e-12)
    assert gradient.abs().sum() == pytest.approx(0, abs=1e-9)
    assert all(at_target[name] < other[name] or number == 0 for name in other)
    hard = torch.rand(number, 5, 7, generator=rng) > 0.5
    logits = logits.detach()
    expected = F.binary_cross_entropy_with_logits(logits, hard.double()) if number else 0.0
    assert float(mask_losses(logits, hard)["bce"]) == pytest.approx(float(expected))


def test_mask_losses_of_half_precision_are_those_of_its_values():
    logits = torch.full((1, 400, 400), 3.0)
    logits[:, :, :100] = -2
    targets = (logits > 0).float()
    for name, value in mask_losses(logits.half(), targets).items():
        assert float(value) == pytest.approx(float(mask_losses(logits, targets)[name]))


def test_wrong_options_are_refused_by_name(monkeypatch):
    sam = BrightnessSam(64)
    for options, message in (
        (dict(mask_score="best"), "mask_score"),
        (dict(channel_order="gbr"), "channel_order"),
        (dict(boxes_per_batch=0), "boxes_per_batch"),
        (dict(data_preprocessor=dict(type="mmdet.DetDataPreprocessor", mean=[1], std=[1])), "must not normalise"),
    ):
        with pytest.raises(ValueError, match=message):
            BoxPromptedSAM(sam=sam, **options)
    with pytest.raises(TypeError, match="sam must"):
        BoxPromptedSAM(sam="vit_b")
    with pytest.raises(ValueError, match="logits and targets"):
        mask_losses(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))
    monkeypatch.setattr("llie_preproc.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"llie-preproc\[sam\]"):
        BoxPromptedSAM(sam=dict(model="small"))


def test_wrong_images_and_labels_are_refused():
    model, image, shape = BoxPromptedSAM(sam=BrightnessSam(64)), picture(0, 40, 60), (40, 60)
    unlabelled = sample_of(shape, [])
    del unlabelled.gt_instances
    unscaled = sample_of(shape, [], (80, 120))
    unscaled.pop("scale_factor")
    cropped = sample_of(shape, [])
    cropped.set_metainfo(dict(scale_factor=(1.5, 1.5)))
    for sample, message in (
        (unlabelled, "LoadAnnotations"),
        (sample_of(shape, [[70, 5, 80, 9]], img_path="a.png"), r"a\.png: a box lies outside"),
        (sample_of(shape, [], flip=True), "flips"),
        (unscaled, "meta_keys"),
        (cropped, "cropped"),
    ):
        with pytest.raises(ValueError, match=message):
            found_by(model, image, sample)
    with pytest.raises(ValueError, match="with_mask=True"):
        model.loss([tensor_of(image)], [sample_of(shape, [[1, 1, 9, 9]])])
    with pytest.raises(TypeError, match="raw colour images"):
        model.predict([tensor_of(image)[:1]], [sample_of(shape, [])])


def test_features_are_sams_embedding():
    sam, batch = tiny_sam(), labelled_batch()[0]
    embedding = sam.image_encoder(sam.preprocess(batch["inputs"][0].flip(0).float()[None]))
    torch.testing.assert_close(BoxPromptedSAM(sam=sam)(batch["inputs"], mode="tensor"), embedding, rtol=1e-4, atol=1e-4)
    assert not hasattr(BoxPromptedSAM(sam=sam), "bbox_head")
    assert isinstance(BoxPromptedSAM(PERFECT, sam).detector, PerfectDetector)
