"""``SamConsistency``: terms equal those computed with segment-anything, and only the enhancer gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.places import ROOT

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_mask
from torch.nn import functional as F

from llie_preproc.errors import CheckpointError
from llie_preproc.registry import MODELS
from tests.support.networks import Gain
from tests.support.sam_models import ROUNDING, TINY
from tests.support.sam_training import TERMS, pixels
from training import methods, randomness
from training.methods import SamConsistency
from training.methods.sam_consistency import moved, random_boxes, some_masks, tight_boxes

CONFIGS = ROOT / "mm_configs" / "segmentation"
NETWORK = {"type": "llie_preproc.IAMLUNet", "width": 4, "depth": 2}


@pytest.fixture
def method(tiny_sam_checkpoint):
    def build(enhancer=NETWORK, **options):
        torch.manual_seed(1)
        return SamConsistency(enhancer, {"model": "small", "checkpoint": tiny_sam_checkpoint, **TINY}, **options)

    return build


def masks_of(*boxes, height=64, width=64):
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return masks


def samples(targets=(), masks=()):
    """Samples with targets, masks or both; a sample lacks an entry that is None."""
    number = max(len(targets), len(masks))
    made = []
    for i in range(number):
        fields = {"target": targets[i] if targets else None, "masks": masks[i] if masks else None}
        made.append(BaseDataElement(**{k: v for k, v in fields.items() if v is not None}))
    return made


def unit(*pictures):
    return torch.stack(list(pictures)).float() / 255


ANNOTATED = [masks_of((5, 8, 30, 40), (0, 0, 64, 20)), masks_of((20, 20, 50, 44))]


@pytest.mark.examples(3)
@pytest.mark.parametrize("term", [*TERMS, "loss_l1"])
@pytest.mark.parametrize("annotated", [True, False])
def test_every_term_trains_the_enhancer_and_not_the_sam(method, term, annotated):
    model = method(losses={"l1": {"type": "llie_preproc.L1Loss"}}).train()
    targets = [pixels(0), pixels(1)]
    losses = model(0.2 * unit(*targets), samples(targets, ANNOTATED if annotated else ()), mode="loss")
    assert sorted(losses) == sorted([*TERMS, "loss_l1"])
    losses[term].backward()
    gradients = {name: p.grad for name, p in model.enhancer.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert sum(bool(g.abs().max() > 0) for g in gradients.values()) > 0.9 * len(gradients)
    assert all(p.grad is None and not p.requires_grad for p in model.sam.parameters())
    assert model.enhancer.training
    assert not any(module.training for module in model.sam.modules())


def by_segment_anything(sam, picture, boxes):
    """Logits ``(n, 64, 64)`` that segment-anything's model gives for a picture ``(3, 64, 64)`` in [0, 1]."""
    record = {"image": 255 * picture, "original_size": (64, 64), "boxes": boxes}
    [answer] = sam([record], multimask_output=False)
    return F.interpolate(answer["low_res_logits"], (64, 64), mode="bilinear")[:, 0]


def dice(logits, masks):
    found = logits.sigmoid()
    overlap, sizes = (found * masks).sum((1, 2)), (found**2 + masks**2).sum((1, 2))
    return float((1 - (2 * overlap + 1) / (sizes + 1)).mean())


@pytest.mark.parametrize("scale", [1, 2])
def test_mask_terms_equal_those_of_segment_anythings_masks(method, scale):
    """Results have SAM's input size or twice that; masks are in the frame of the input or of the result."""
    model = method(Gain(scale, 0.5))
    targets = [pixels(0), pixels(1)]
    annotated = [masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for masks in ANNOTATED]
    whole = [t.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for t in targets]
    for frame in (ANNOTATED, annotated):
        losses = model.loss(unit(*targets), samples(whole, frame))
        expected = {"bce": [], "dice": []}
        for picture, masks in zip(targets, ANNOTATED, strict=True):
            left, top, width, height = coco_mask.toBbox(
                coco_mask.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy()))
            ).T
            boxes = torch.from_numpy(np.stack([left, top, left + width, top + height], 1)).float()
            logits = by_segment_anything(model.sam.model, 0.5 * picture.float() / 255, boxes)
            expected["bce"].append(float(F.binary_cross_entropy_with_logits(logits, masks.float())))
            expected["dice"].append(dice(logits, masks.float()))
        for name, values in expected.items():
            # Enlarging by repetition and resizing back blurs a picture a little.
            tolerance = 1e-4 if scale == 1 else 0.05
            assert losses[f"loss_mask_{name}"].item() == pytest.approx(np.mean(values), rel=tolerance)


@pytest.mark.parametrize(("distance", "power"), [("l1", 1), ("l2", 2)])
def test_the_feature_term_leaves_out_padded_patches(method, distance, power):
    model = method(Gain(1, 0.4), feature_distance=distance, feature_weight=3.0, mask_bce_weight=0, mask_dice_weight=0)
    targets = [pixels(0, 36, 64), pixels(1, 36, 64)]
    losses = model.loss(unit(*targets), samples(targets))
    assert list(losses) == ["loss_feature"]
    sam = model.sam.model
    with torch.no_grad():
        embeddings = [sam.image_encoder(sam.preprocess(255 * factor * unit(*targets))) for factor in (0.4, 1.0)]
    # 36 rows are four and a half patches of eight, so five rows of patches count.
    difference = (embeddings[0] - embeddings[1])[:, :, :5]
    assert losses["loss_feature"].item() == pytest.approx(3 * (difference.abs() ** power).mean().item(), rel=1e-4)


def test_a_perfect_enhancer_gets_almost_no_gradient(method):
    """SAM's masks of a perfect result equal their soft targets, where the losses have no slope."""
    enhancer = Gain(start=1.0)
    model = method(enhancer)
    targets = [pixels(0), pixels(1)]
    slopes = {}
    for factor in (1.0, 0.5):
        with torch.no_grad():
            enhancer.factor.fill_(factor)
        torch.manual_seed(4)
        losses = model.loss(unit(*targets), samples(targets))
        for name in TERMS:
            [slope] = torch.autograd.grad(losses[name], [enhancer.factor], retain_graph=True)
            slopes.setdefault(name, []).append(float(slope.abs().max()))
        assert (losses["loss_feature"].item() == 0) == (factor == 1)
    for name, (right, wrong) in slopes.items():
        assert right < 1e-3 * wrong, name


@pytest.mark.parametrize("annotated", [True, False])
def test_mask_terms_alone_can_be_lowered(method, annotated):
    enhancer = Gain(start=0.5)
    model = method(enhancer, feature_weight=0)
    target = pixels(0)
    optimizer = torch.optim.Adam(enhancer.parameters(), lr=0.01)
    values = []
    for _ in range(15):
        torch.manual_seed(4)
        total = sum(model.loss(unit(target), samples([target], ANNOTATED[:1] if annotated else ())).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(total.item())
    # The loss falls by more than rounding can explain.
    assert values[-1] < (1 - 2 * ROUNDING) * values[0]


def test_pictures_without_masks_count_as_zero(method):
    model = method()
    targets = [pixels(0), pixels(1)]
    empty = [masks_of(), masks_of((3, 3, 3, 9))]
    losses = model.loss(unit(*targets), samples(targets, empty))
    assert losses["loss_mask_bce"].item() == losses["loss_mask_dice"].item() == 0
    losses["loss_mask_bce"].backward()
    # A picture without masks counts as zero in the mean, so the mean is half of the other picture's loss.
    torch.manual_seed(0)
    both = model.loss(unit(*targets), samples(targets, [masks_of(), ANNOTATED[0]]))
    alone = model.loss(unit(targets[1]), samples(targets[1:], ANNOTATED[:1]))
    assert both["loss_mask_bce"].item() == pytest.approx(alone["loss_mask_bce"].item() / 2, rel=1e-4)
    mixed = model.loss(unit(*targets), samples(targets, [None, ANNOTATED[0]]))
    assert mixed["loss_mask_bce"].item() > both["loss_mask_bce"].item()


def test_annotated_pictures_need_no_target_without_the_feature_term(method):
    model = method(feature_weight=0)
    losses = model.loss(unit(pixels(0)), samples(masks=ANNOTATED[:1]))
    assert list(losses) == TERMS[1:]
    with pytest.raises(ValueError, match=r"without 'target'.*feature_weight=0"):
        method().loss(unit(pixels(0)), samples(masks=ANNOTATED[:1]))
    with pytest.raises(ValueError, match="without 'target'"):
        model.loss(unit(pixels(0), pixels(1)), samples(masks=[ANNOTATED[0], None]))


def test_samples_that_do_not_fit_are_refused(method):
    picture = unit(pixels(0))
    with pytest.raises(ValueError, match="without 'masks' need random boxes"):
        method(boxes=0).loss(picture, samples([pixels(0)]))
    with pytest.raises(ValueError, match=r"masks must have the shape \('n', 64, 64\), .* got \(1, 60, 64\)"):
        method().loss(picture, samples([pixels(0)], [masks_of((0, 0, 2, 2), height=60)]))
    with pytest.raises(ValueError, match=r"the same shape, got \(1, 3, 64, 64\) and \(1, 3, 32, 32\)"):
        method().loss(picture, samples([pixels(0, 32, 32)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_weight": -1}, "feature_weight must be a number of at least 0, got -1"),
        ({"mask_dice_weight": float("nan")}, "mask_dice_weight must be a number of at least 0, got nan"),
        ({"feature_weight": 0, "mask_bce_weight": 0, "mask_dice_weight": 0}, "use SupervisedTraining"),
        ({"feature_distance": "cosine"}, "'l1', 'l2', got 'cosine'"),
        ({"boxes": -1}, "boxes must be a whole number of at least 0, got -1"),
        ({"max_masks": 0}, "max_masks must be a whole number of at least 1, got 0"),
        ({"box_share": (0.5, 0.2)}, r"box_share .* got \(0.5, 0.2\)"),
        ({"box_jitter": 0.5}, "box_jitter .* got 0.5"),
    ],
)
def test_invalid_settings_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


def test_a_sam_needs_an_existing_checkpoint_that_fits(tiny_sam_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="must have a 'checkpoint'"):
        SamConsistency(NETWORK, {"model": "small", **TINY})
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        SamConsistency(NETWORK, {"model": "small", "checkpoint": str(tmp_path / "absent.pth")})
    with pytest.raises(CheckpointError, match="Sam"):
        SamConsistency(NETWORK, {"model": "small", "checkpoint": tiny_sam_checkpoint})
    with pytest.raises(ValueError, match="'vit_x'"):
        SamConsistency(NETWORK, {"model": "vit_x", "checkpoint": None})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(2, 40), width=st.integers(2, 40), number=st.integers(0, 5))
def test_boxes_around_masks_equal_pycocotools_and_move_within_bounds(seed, height, width, number):
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(number, height, width, generator=generator) < 0.1).to(torch.uint8)
    kept = some_masks(masks, 3, generator)
    whole = [m for m in masks if m.any()]
    assert len(kept) == min(3, len(whole))
    assert all(any(torch.equal(k, w > 0) for w in whole) for k in kept)
    boxes = tight_boxes(kept)
    for mask, box in zip(kept, boxes.tolist(), strict=True):
        left, top, wide, high = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))))
        assert box == [left, top, left + wide, top + high]
    assert torch.equal(moved(boxes, 0.0, generator), boxes)
    apart = moved(boxes, 0.3, generator)
    extents = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    assert ((apart - boxes).abs() <= 0.3 * extents + 1e-5).all()
    assert (apart[:, 2:] > apart[:, :2]).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    share=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
)
def test_random_boxes_are_within_the_picture(seed, size, share):
    boxes = random_boxes(6, size, tuple(share), torch.Generator().manual_seed(seed))
    relative = boxes / torch.tensor([size[1], size[0]] * 2)
    assert relative.min() >= 0
    assert relative.max() <= 1 + 1e-6
    sides = relative[:, 2:] - relative[:, :2]
    assert sides.min() >= share[0] - 1e-5
    assert sides.max() <= share[1] + 1e-5


def test_two_processes_have_the_mean_losses_of_one(method, monkeypatch):
    """One process draws from more masks than the other."""
    model = method(max_masks=1, box_jitter=0.2, losses={"l1": {"type": "llie_preproc.L1Loss"}})
    targets = [pixels(i) for i in range(4)]
    annotated = [ANNOTATED[0], None, ANNOTATED[1], masks_of((0, 0, 9, 9), (30, 2, 60, 60), (7, 7, 8, 8))]

    def losses(rank, world):
        monkeypatch.setattr(randomness, "get_rank", lambda: rank)
        monkeypatch.setattr(randomness, "get_world_size", lambda: world)
        randomness.begin_iteration(3, 5)
        own = slice(rank, None, world)
        values = model.loss(0.3 * unit(*targets[own]), samples(targets[own], annotated[own]))
        randomness.end_iteration()
        return torch.stack([values[name] for name in sorted(values)]).detach()

    whole = losses(0, 1)
    assert torch.equal(whole, losses(0, 1))
    torch.testing.assert_close((losses(0, 2) + losses(1, 2)) / 2, whole, rtol=1e-4, atol=1e-5)


def test_mixed_precision_gives_nearly_the_same_gradient(method):
    targets = [pixels(0), pixels(1)]
    steps = []
    for enabled in (False, True):
        model = method(losses={"ssim": {"type": "llie_preproc.SSIMLoss"}}).train()
        torch.manual_seed(6)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            losses = model(0.2 * unit(*targets), samples(targets, [None, ANNOTATED[0]]), mode="loss")
        assert {value.dtype for value in losses.values()} == {torch.float32}
        sum(losses.values()).backward()
        steps.append(torch.cat([p.grad.flatten() for p in model.enhancer.parameters()]))
    assert steps[1].isfinite().all()
    assert not torch.equal(*steps)
    assert torch.cosine_similarity(*steps, dim=0) > 0.95


def test_the_config_of_vit_b_builds_and_computes_its_terms(tiny_sam_checkpoint):
    cfg = Config.fromfile(CONFIGS / "psenet_sam-vit-b_lol40.py")
    assert cfg.model.sam.model == "vit_b"
    assert cfg.train_dataloader.dataset.transforms[0].size == 384
    with pytest.raises(FileNotFoundError, match=r"sam_vit_b_01ec64\.pth"):
        MODELS.build(cfg.model)
    cfg.merge_from_dict(
        {f"model.sam.{name}": value for name, value in {**TINY, "checkpoint": tiny_sam_checkpoint}.items()}
    )
    model = MODELS.build(cfg.model)
    assert isinstance(model, methods.SamConsistency)
    targets = [pixels(0, 48, 48), pixels(1, 48, 48)]
    assert sorted(model.loss(0.3 * unit(*targets), samples(targets))) == ["loss_feature", "loss_l1", *TERMS[1:]]
