"""The head of the face detector DSFD has the anchors, losses and predictions that are computed by hand here."""

import copy
import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from tests.support.dsfd_models import (
    MODELS,
    build,
    paper_resnet,
    paper_vgg,
    raw_batch,
    release_resnet,
    tiny,
    tiny_release,
)

SIZES = (16, 32, 64, 128, 256, 512)
STRIDES = (4, 8, 16, 32, 64, 128)


def head_on_meta(model):
    with torch.device("meta"):
        detector = MODELS.build(model)
    return detector


def all_anchors(detector, height, width):
    """The anchors that predict in one picture; the network itself gives the sizes of its maps."""
    maps, _ = detector.extract_feat(torch.empty(1, 3, height, width, device="meta"))
    head = MODELS.build(dict(type="llie_preproc.DSFDHead", in_channels=(1,) * 6))
    return torch.cat(head.prior_generator.grid_priors([m.shape[-2:] for m in maps], device="cpu"))


def test_the_numbers_of_anchors_are_the_published_ones():
    assert len(all_anchors(head_on_meta(paper_vgg()), 640, 640)) == 34_125
    assert len(all_anchors(head_on_meta(paper_resnet(50)), 640, 640)) == 34_125
    assert len(all_anchors(head_on_meta(release_resnet(50)), 350, 450)) == 13_315


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_anchors_are_centred_in_cells_and_half_as_large_for_the_first_shot(ratio):
    head = MODELS.build(dict(type="llie_preproc.DSFDHead", in_channels=(1,) * 6, anchor_ratio=ratio))
    sizes = [(3, 4)] * 6
    for anchors, factor in zip(head.anchor_sets, (1, 0.5), strict=True):
        for level, found in enumerate(anchors.generator.grid_priors(sizes, device="cpu")):
            area = SIZES[level] * factor
            w, h = area / math.sqrt(ratio), area * math.sqrt(ratio)
            stride = STRIDES[level]
            centres = [((j + 0.5) * stride, (i + 0.5) * stride) for i in range(3) for j in range(4)]
            expected = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y in centres]
            torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_the_smallest_and_the_largest_anchor_are_the_published_ones():
    head = MODELS.build(dict(type="llie_preproc.DSFDHead", in_channels=(1,) * 6))
    anchors = head.prior_generator.grid_priors([(1, 1)] * 6, device="cpu")
    sides = [(a[:, 2:] - a[:, :2])[0].tolist() for a in anchors]
    assert sides[0] == pytest.approx([13.0639, 19.5959], abs=1e-3)
    assert sides[5] == pytest.approx([418.05, 627.07], abs=1e-2)


def test_the_releases_second_and_third_anchor_sets_begin_at_higher_levels():
    detector = build(tiny_release())
    head = detector.bbox_head
    areas = [
        [float((a[0, 2:] - a[0, :2]).prod().sqrt()) for a in s.generator.grid_priors([(1, 1)] * n, device="cpu")]
        for s, n in zip(head.anchor_sets, (6, 5, 4), strict=True)
    ]
    assert areas[0] == pytest.approx([16, 32, 64, 128, 256, 512], rel=1e-5)
    assert areas[1] == pytest.approx([16, 32, 64, 128, 256], rel=1e-5)
    assert areas[2] == pytest.approx([16, 32, 64, 128], rel=1e-5)
    assert [[s[0] for s in a.generator.strides] for a in head.anchor_sets] == [
        list(STRIDES),
        list(STRIDES[1:]),
        list(STRIDES[2:]),
    ]
    scores, boxes = head(detector.extract_feat(torch.rand(1, 3, 128, 128)))
    assert [len(s) for s in scores] == [len(b) for b in boxes] == [6, 5, 4]
    assert all(s.shape[1] == 2 for levels in scores for s in levels)
    assert all(b.shape[1] == 4 for levels in boxes for b in levels)


def overlap(a, b):
    x1, y1, x2, y2 = np.maximum(a[0], b[0]), np.maximum(a[1], b[1]), np.minimum(a[2], b[2]), np.minimum(a[3], b[3])
    inner = max(x2 - x1, 0) * max(y2 - y1, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def ssd_loss_by_hand(scores, deltas, anchors, faces, ratio=3, threshold=0.4):
    """Losses of classes and boxes of a batch, in plain loops.

    ``scores`` is (n, A, 2), ``deltas`` (n, A, 4) and ``anchors`` (A, 4), all float64; ``faces`` is a list of (k, 4).
    """
    classes = boxes = count = 0
    for image, truth in enumerate(faces):
        ious = np.array([[overlap(a, f) for f in truth] for a in anchors]).reshape(len(anchors), len(truth))
        owner = np.full(len(anchors), -1)
        for a in range(len(anchors)):
            if len(truth) and ious[a].max() >= threshold:
                owner[a] = int(ious[a].argmax())
        for f in range(len(truth)):
            if ious[:, f].max() > 0:
                owner[int(ious[:, f].argmax())] = f
        logits = scores[image]
        nll = np.log(np.exp(logits).sum(1))[:, None] - logits  # negative log-likelihoods
        positive = owner >= 0
        negatives = sorted(nll[~positive, 1], reverse=True)[: ratio * int(positive.sum())]
        classes += nll[positive, 0].sum() + sum(negatives)
        count += int(positive.sum())
        for a in np.flatnonzero(positive):
            (x1, y1, x2, y2), (u1, v1, u2, v2) = anchors[a], truth[owner[a]]
            w, h = x2 - x1, y2 - y1
            target = [
                ((u1 + u2) - (x1 + x2)) / 2 / w / 0.1,
                ((v1 + v2) - (y1 + y2)) / 2 / h / 0.1,
                math.log((u2 - u1) / w) / 0.2,
                math.log((v2 - v1) / h) / 0.2,
            ]
            for difference in np.abs(np.array(target) - deltas[image, a]):
                boxes += 0.5 * difference**2 if difference < 1 else difference - 0.5
    return classes / max(count, 1), boxes / max(count, 1)


def flat(maps):
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, m.shape[1]) for m in maps], 1).double().numpy()


@pytest.mark.parametrize(
    ("model", "suffixes"),
    [(tiny(), ("", "_first")), (tiny_release(), ("", "_set2", "_set3"))],
    ids=["two shots", "three sets"],
)
def test_the_progressive_anchor_loss_is_a_sum_of_ssd_losses(model, suffixes):
    detector = build(model)
    head = detector.bbox_head
    # The scores are random numbers, because those of an untrained deep form would be very large.
    torch.manual_seed(1)
    maps = [(128 // s, 96 // s) for s in (4, 8, 16, 32, 64)] + [(1, 1)]
    starts = (0, 0) if len(suffixes) == 2 else (0, 1, 2)
    scores = [[torch.randn(2, 2, *m) * 2 for m in maps[start:]] for start in starts]
    deltas = [[torch.randn(2, 4, *m) for m in maps[start:]] for start in starts]
    # Two faces compete for the same anchors, one image has a face too small for an overlap of 0.4, and none is ignored.
    faces = [[[10.0, 20, 40, 60], [12, 20, 40, 64], [50, 60, 66, 84]], [[70.0, 70, 73, 74]]]
    truth = [InstanceData(bboxes=torch.tensor(f), labels=torch.zeros(len(f)).long()) for f in faces]
    metas = [dict(img_shape=(128, 96), pad_shape=(128, 96))] * 2
    losses = head.loss_by_feat(scores, deltas, truth, metas)
    assert set(losses) == {f"loss_{kind}{s}" for kind in ("cls", "bbox") for s in suffixes}
    for number, suffix in enumerate(suffixes):
        factor = 0.5**number
        anchors = [
            [(j + 0.5) * STRIDES[k], (i + 0.5) * STRIDES[k], SIZES[k] * factor]
            for k in range(starts[number], 6)
            for i in range(maps[k][0])
            for j in range(maps[k][1])
        ]
        x, y, s = np.array(anchors).T
        w, h = s / math.sqrt(1.5), s * math.sqrt(1.5)
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        expected = ssd_loss_by_hand(flat(scores[number]), flat(deltas[number]), boxes, [np.array(f) for f in faces])
        assert float(losses[f"loss_cls{suffix}"]) == pytest.approx(expected[0], rel=1e-4)
        assert float(losses[f"loss_bbox{suffix}"]) == pytest.approx(expected[1], rel=1e-4)


def test_a_weight_scales_a_shots_loss():
    plain, weighted = build(tiny()), build(tiny(bbox_head=dict(tiny()["bbox_head"], loss_weights=(1.0, 0.25))))
    weighted.load_state_dict(plain.state_dict())
    a, b = ((m.loss(*inputs_of(m, raw_batch()))) for m in (plain, weighted))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value * (0.25 if name.endswith("_first") else 1.0))


def inputs_of(detector, batch, training=True):
    data = detector.data_preprocessor(copy.deepcopy(batch), training)
    return data["inputs"], data["data_samples"]


def test_each_shot_trains_its_own_head_on_its_own_maps():
    detector = build(tiny())
    losses = detector.loss(*inputs_of(detector, raw_batch()))
    (losses["loss_cls_first"] + losses["loss_bbox_first"]).backward()
    head, neck = detector.bbox_head, detector.neck
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.first.parameters())
    for part in (head.second, neck.fem, neck.up_path, neck.norm_enhanced):
        assert all(p.grad is None for p in part.parameters())


@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_a_batch_without_faces_has_a_loss_of_zero_with_a_gradient(model):
    detector = build(model)
    losses = detector.loss(*inputs_of(detector, raw_batch(faces=0)))
    total = sum(losses.values())
    total.backward()
    assert float(total.detach()) == 0
    # Distributed training needs a gradient for every parameter.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())
    # With a face the loss is positive, and an image without a face adds nothing to it.
    one = raw_batch()
    two = copy.deepcopy(one)
    two["data_samples"][1].gt_instances = two["data_samples"][1].gt_instances[:0]
    single = {key: values[:1] for key, values in one.items()}
    alone = detector.loss(*inputs_of(detector, single))
    beside = detector.loss(*inputs_of(detector, two))
    assert float(alone["loss_cls"]) > 0
    for name in alone:
        torch.testing.assert_close(beside[name], alone[name], rtol=1e-4, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    positives=st.integers(0, 6),
    ignored=st.integers(0, 5),
    ratio=st.integers(1, 4),
)
def test_the_hardest_background_is_mined_image_by_image(seed, positives, ignored, ratio):
    """``loss_by_feat_single`` of one image is compared with the largest losses among the background anchors."""
    model = tiny()
    model["train_cfg"]["neg_pos_ratio"] = ratio
    head = MODELS.build(dict(model["bbox_head"], in_channels=(1,) * 6, train_cfg=model["train_cfg"]))
    rng = np.random.default_rng(seed)
    anchors = 16
    scores = torch.from_numpy(rng.normal(0, 2, (anchors, 2)))
    labels = torch.ones(anchors).long()
    labels[:positives] = 0
    weights = torch.ones(anchors).double()
    weights[anchors - ignored :] = 0
    zeros = torch.zeros(anchors, 4).double()
    classes, _ = head.loss_by_feat_single(
        scores, zeros, zeros, labels, weights, zeros, zeros, avg_factor=max(positives, 1)
    )
    nll = -scores.log_softmax(1)
    background = nll[positives : anchors - ignored, 1].tolist()
    best = sum(sorted(background)[::-1][: ratio * positives])
    expected = (float(nll[:positives, 0].sum()) + best) / max(positives, 1)
    assert float(classes) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def predictions(detector, batch):
    return [sample.pred_instances for sample in detector.test_step(copy.deepcopy(batch))]


def test_only_the_second_shot_and_the_first_set_predict():
    for model, unused in ((tiny(), ("first",)), (tiny_release(), ())):
        detector = build(model)
        before = predictions(detector, raw_batch())
        assert len(before[0]) > 0
        head = detector.bbox_head
        for name in unused:
            for parameter in getattr(head, name).parameters():
                torch.nn.init.normal_(parameter)
        if not unused:
            for tower, own in ((head.deep.cls, 4), (head.deep.reg, 4)):
                for level in tower:
                    torch.nn.init.normal_(level[-1].weight.data[own:])
        after = predictions(detector, raw_batch())
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a.bboxes, b.bboxes)
            assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_an_image_has_the_same_predictions_alone_and_in_a_batch(model):
    """Both computations are in float64.

    In float32, the products of the untrained deep form enlarge roundings to 1e-4 of a score, which swaps boxes of
    similar scores.
    """
    detector = build(model).double()
    batch = raw_batch([(96, 128)] * 3)
    together = predictions(detector, batch)
    for i, found in enumerate(together):
        (alone,) = predictions(detector, {key: values[i : i + 1] for key, values in batch.items()})
        assert len(alone) == len(found) > 0
        # Each result is rounded to float32 once.
        once = torch.finfo(torch.float32).eps
        torch.testing.assert_close(found.bboxes, alone.bboxes, rtol=once, atol=once * 128)
        torch.testing.assert_close(found.scores, alone.scores, rtol=once, atol=once)


def head_outputs(seed, maps):
    """Scores in random order, all different, and deltas."""
    rng = np.random.default_rng(seed)
    cells = [height * width for height, width in maps]
    faces = np.split(rng.permutation(np.linspace(-4, 4, sum(cells))), np.cumsum(cells)[:-1])
    pairs = [np.stack([f + 1, np.ones_like(f)]).reshape(1, 2, *m) for f, m in zip(faces, maps, strict=True)]
    scores = [torch.from_numpy(pair).float() for pair in pairs]
    return scores, [torch.from_numpy(rng.normal(0, 1, (1, 4, *m))).float() for m in maps]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    threshold=st.sampled_from([0.05, 0.5, 0.9]),
    before=st.sampled_from([7, 60, 5000]),
    kept=st.sampled_from([3, 750]),
)
def test_the_best_of_all_levels_go_through_nms(seed, threshold, before, kept):
    maps = [(16, 12), (8, 6), (4, 3), (2, 2), (1, 1), (1, 1)]
    scores, deltas = head_outputs(seed, maps)
    test = ConfigDict(score_thr=threshold, nms_pre=before, nms=dict(type="nms", iou_threshold=0.3), max_per_img=kept)
    head = MODELS.build(dict(type="llie_preproc.DSFDHead", in_channels=(1,) * 6, test_cfg=test))
    meta = dict(img_shape=(64, 48), scale_factor=(0.5, 2.0))
    (found,) = head.predict_by_feat([scores], [deltas], batch_img_metas=[meta], rescale=True)

    faces, boxes = [], []
    for level, (s, d) in enumerate(zip(scores, deltas, strict=True)):
        w, h = SIZES[level] / math.sqrt(1.5), SIZES[level] * math.sqrt(1.5)
        for i in range(s.shape[2]):
            for j in range(s.shape[3]):
                face, background = (float(v) for v in s[0, :, i, j].double().exp())
                dx, dy, dw, dh = (float(v) for v in d[0, :, i, j])
                x, y = (j + 0.5) * STRIDES[level] + 0.1 * dx * w, (i + 0.5) * STRIDES[level] + 0.1 * dy * h
                half = (w * math.exp(0.2 * dw) / 2, h * math.exp(0.2 * dh) / 2)
                box = (x - half[0], y - half[1], x + half[0], y + half[1])
                # The box is clipped to the picture, then mapped back: x by 1 / 0.5, y by 1 / 2.
                boxes.append(
                    [min(max(v, 0), 48) / 0.5 if k % 2 == 0 else min(max(v, 0), 64) / 2 for k, v in enumerate(box)]
                )
                faces.append(face / (face + background))
    faces, boxes = torch.tensor(faces), torch.tensor(boxes)
    order = faces.argsort(descending=True)
    order = order[faces[order] > threshold][:before]
    order = order[torchvision.ops.nms(boxes[order], faces[order], 0.3)][:kept]
    torch.testing.assert_close(found.scores, faces[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bboxes, boxes[order], rtol=1e-3, atol=1e-2)
    assert (found.labels == 0).all()


def test_clipped_priors_are_shares_of_the_picture():
    """The expected anchors follow the release in plain loops: (cx, cy, w, h) / (W, H, W, H), each clipped to [0, 1]."""
    maps = [(16, 12), (8, 6), (4, 3), (2, 2), (1, 1), (1, 1)]
    scores, _ = head_outputs(0, maps)
    deltas = [torch.zeros(1, 4, *m) for m in maps]
    test = ConfigDict(score_thr=0.0, nms_pre=5000, nms=dict(type="nms", iou_threshold=1.0), max_per_img=-1)
    coder = dict(type="mmdet.DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)
    head = MODELS.build(dict(type="llie_preproc.DSFDHead", in_channels=(1,) * 6, test_cfg=test, bbox_coder=coder))
    meta = dict(img_shape=(62, 47), scale_factor=(1.0, 1.0))

    def boxes(**options):
        cfg = ConfigDict(test, **options)
        (found,) = head.predict_by_feat([scores], [deltas], batch_img_metas=[meta], cfg=cfg, with_nms=False)
        return found.bboxes[found.bboxes[:, 0].argsort()]

    expected = []
    for level, (rows, columns) in enumerate(maps):
        for i in range(rows):
            for j in range(columns):
                share = [
                    (j + 0.5) * STRIDES[level] / 47,
                    (i + 0.5) * STRIDES[level] / 62,
                    SIZES[level] / math.sqrt(1.5) / 47,
                    SIZES[level] * math.sqrt(1.5) / 62,
                ]
                cx, cy, w, h = (min(max(s, 0), 1) for s in share)
                expected.append([(cx - w / 2) * 47, (cy - h / 2) * 62, (cx + w / 2) * 47, (cy + h / 2) * 62])
    found = {tuple(round(float(v), 2) for v in b) for b in boxes(clip_priors=True)}
    assert found == {tuple(round(v, 2) for v in b) for b in np.float32(expected).tolist()}
    # The anchor of 512 pixels is clipped to the picture's size only with the option.
    sides = boxes()[:, 3] - boxes()[:, 1]
    assert float(sides.max()) == pytest.approx(512 * math.sqrt(1.5), rel=1e-5)
    assert float((boxes(clip_priors=True)[:, 3] - boxes(clip_priors=True)[:, 1]).max()) == pytest.approx(62)


@pytest.mark.examples(1)
@pytest.mark.parametrize("model", [tiny(), tiny_release()], ids=["plain", "deep"])
def test_behind_the_identity_enhancer_nothing_changes(model):
    plain = build(model)
    wrapped = build(dict(type="llie_preproc.EnhancedDetector", detector=model, enhancer="Identity"), seed=1)
    wrapped.load_state_dict(plain.state_dict(), strict=False)
    wrapped.eval()
    batch = raw_batch([(96, 128), (128, 96)])
    ours = wrapped.loss(*inputs_of(wrapped, batch))
    theirs = plain.loss(*inputs_of(plain, batch))
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for a, b in zip(predictions(wrapped, batch), predictions(plain, batch), strict=True):
        assert torch.equal(a.bboxes, b.bboxes)
        assert torch.equal(a.scores, b.scores)
