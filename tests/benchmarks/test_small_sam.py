"""The small SAM of ``benchmarks``: prompts, loss and IoU are right for known masks; the committed weights work."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support.places import ROOT

pytest.importorskip("skimage", reason="needs the extra 'demo'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("benchmarks.small_sam", reason="the benchmarks are found from the repository's root")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.small_sam import HELD_OUT, WEIGHTS, innermost_pixels, inscribed_ellipses, prompt_iou
from benchmarks.small_sam_training import Batch, Recipe, batch_loss, decode, mask_iou, prompted, save_half, train
from detection_eval.demo.mask_scenes import mask_scene
from llie_preproc.segmentation import EnhancedSamPredictor, build_sam
from tests.support.sam_models import TINY, BrightnessSam, assert_equal_but_for_rounding, tiny_sam

RESULTS = ROOT / "benchmarks" / "results" / "small_sam_cpu_2_cores"
LEAST_IOU = 0.65
SIDE = TINY["img_size"]


def _batch(seed: int, pictures: int = 2) -> Batch:
    return prompted([mask_scene(seed, index, SIDE) for index in range(pictures)], np.random.default_rng(seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_prompts_point_at_their_targets(seed):
    batch = _batch(seed)
    boxes, points = batch.targets.bool().chunk(2)
    for target, point in zip(points, batch.points[:, 0].int(), strict=True):
        assert target[point[1], point[0]]
    for target, box in zip(boxes, batch.boxes, strict=True):
        rows, columns = (torch.nonzero(target.any(axis))[:, 0] for axis in (1, 0))
        tight = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        sides = (tight[2:] - tight[:2]).repeat(2)
        assert ((box - tight).abs() <= 0.2 * sides + 1e-4).all()


def test_many_pictures_decoded_at_once_equal_each_decoded_alone():
    sam, batch = tiny_sam().eval(), _batch(1)
    with torch.no_grad():
        embeddings = sam.image_encoder(sam.preprocess(batch.pictures))
        masks, predicted = decode(sam, embeddings, batch)
        for at, (picture, box) in enumerate(zip(batch.of_picture, batch.boxes, strict=False)):
            sparse, dense = sam.prompt_encoder(None, box[None], None)
            alone, iou = sam.mask_decoder(
                embeddings[picture][None], sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True
            )
            assert_equal_but_for_rounding(masks[at, 1:], alone[0])
            assert_equal_but_for_rounding(predicted[at, 1:], iou[0])


@pytest.mark.further
def test_training_lowers_the_loss_of_its_scenes():
    torch.manual_seed(0)
    sam, batches = build_sam("small", **TINY), [_batch(seed) for seed in range(2)]
    recipe = Recipe(iterations=30, warm_up=5, learning_rate=3e-3)

    def losses():
        torch.manual_seed(1)
        return [batch_loss(sam, batch, refine=True)[0].item() for batch in batches]

    before = losses()
    curve = train(sam, recipe, (batches[at % 2] for at in range(recipe.iterations)))
    assert all(after < 0.8 * start for after, start in zip(losses(), before, strict=True))
    assert [row["iteration"] for row in curve] == [30]
    assert not sam.training


def test_every_part_is_trained():
    sam = build_sam("small", **TINY).train()
    batch_loss(sam, _batch(2), refine=True)[0].backward()
    idle = {name for name, parameter in sam.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    # A negative point is drawn only where a mask is too large. Of three masks, only the best one gets a gradient.
    waiting = r"prompt_encoder.point_embeddings.0|mask_decoder.output_hypernetworks_mlps.[123]"
    assert not {name for name in idle if not re.match(waiting, name)}


def test_right_masks_with_high_logits_have_no_loss():
    low, batch = SIDE // 2, replace(_batch(3), targets=torch.zeros(8, SIDE, SIDE))
    batch.targets[:, : SIDE // 2] = 1
    sure = torch.where(torch.arange(low)[:, None] < low // 2, 20.0, -20.0).expand(8, 4, low, low)
    sam = build_sam("small", **TINY)
    sam.mask_decoder.predict_masks = lambda *inputs: (sure, torch.ones(8, 4))
    loss, scores = batch_loss(sam, batch, refine=False)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert scores == {"box_iou": 1.0, "point_iou": 1.0}


@pytest.mark.parametrize("scale", [1, 2])
def test_a_model_that_predicts_the_right_masks_has_an_iou_of_one(scale):
    picture = np.full((60, 64, 3), 20, np.uint8)
    picture[4:56, 6:60] = 240
    masks = (picture[..., 0] > 128)[None]
    predictor = EnhancedSamPredictor(BrightnessSam(64 * scale), {"type": "Upscale", "scale": scale, "mode": "nearest"})
    assert prompt_iou(predictor, picture, masks) == {"box": [1.0], "point": [1.0]}
    half = masks & (np.arange(64) < 33)
    assert prompt_iou(predictor, picture, half)["box"] == pytest.approx([0.5])


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_innermost_pixels_are_inside_and_ellipses_fill_their_boxes(index):
    masks = mask_scene(4, index, SIDE).masks
    for mask, (x, y) in zip(masks, innermost_pixels(masks), strict=True):
        assert mask[y, x]
        # No other pixel of the mask is farther from the pixels outside.
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        depth = [np.hypot(*(outside - at).T).min() for at in np.argwhere(mask)]
        assert np.hypot(*(outside - [y, x]).T).min() == pytest.approx(max(depth))
    ellipses = inscribed_ellipses(masks)
    boxes = np.array([np.ptp(np.argwhere(mask), axis=0) + 1 for mask in masks]).prod(axis=1)
    np.testing.assert_allclose(ellipses.sum(axis=(1, 2)) / boxes, np.pi / 4, rtol=0.1)


def test_weights_are_saved_in_half_precision(tmp_path):
    sam = tiny_sam()
    save_half(sam, tmp_path / WEIGHTS, {"recipe": "none"})
    again = build_sam("small", tmp_path / WEIGHTS, **TINY)
    for name, value in sam.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().float())


def test_committed_weights_find_masks_better_than_ellipses_in_the_boxes_do():
    if not (RESULTS / WEIGHTS).is_file():
        pytest.skip(f"no trained weights at {RESULTS / WEIGHTS}")
    predictor = EnhancedSamPredictor(build_sam("small", RESULTS / WEIGHTS))
    found, guessed = [], []
    for index in range(10):
        scene = mask_scene(HELD_OUT, index)
        found.append(prompt_iou(predictor, scene.day, scene.masks)["box"])
        ellipses = torch.from_numpy(inscribed_ellipses(scene.masks))
        guessed.append(mask_iou(ellipses, torch.from_numpy(scene.masks)).numpy())
    assert np.concatenate(found).mean() > LEAST_IOU
    assert np.concatenate(found).mean() > np.concatenate(guessed).mean() + 0.05
    measured = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    assert (RESULTS / WEIGHTS).stat().st_size < 2_000_000
    assert measured["scenes"] >= 100
