"""Scenes of ``mask_scenes.py`` depend on seed and index alone, and their masks cover the visible pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("skimage", reason="needs the extra 'demo'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detection_eval.demo import mask_scenes, night_scenes
from detection_eval.demo.mask_scenes import at_night, mask_scene, write_mask_set
from llie_preproc.pictures import read_picture

STOPS = (-2.0, -4.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10_000), st.sampled_from([64, 128, 200]))
def test_a_scene_depends_on_seed_and_index_and_its_masks_are_disjoint(seed, index, size):
    scene, again = (mask_scene(seed, index, size) for _ in range(2))
    np.testing.assert_array_equal(scene.day, again.day)
    np.testing.assert_array_equal(scene.masks, again.masks)
    assert scene.day.shape == (size, size, 3)
    assert scene.day.dtype == np.uint8
    assert scene.masks.shape[1:] == (size, size)
    assert scene.masks.dtype == bool
    assert 1 <= len(scene.masks) <= 4
    assert scene.masks.sum(axis=0).max() == 1
    assert not np.array_equal(scene.day, mask_scene(seed, index + 1, size).day)


def test_masks_cover_the_visible_part_of_the_objects(monkeypatch):
    colours = np.random.default_rng(0)
    monkeypatch.setattr(
        mask_scenes, "_texture", lambda material, shape, rng: np.full((*shape, 3), colours.uniform(40, 250, 3))
    )
    monkeypatch.setattr(mask_scenes, "_CUT_OUTS", 0.0)
    for index in range(8):
        scene = mask_scene(1, index)
        own = [np.median(scene.day[mask], axis=0) for mask in scene.masks]
        # Pixels on outlines are blended; all other pixels of an object have its colour.
        for mask, colour in zip(scene.masks, own, strict=True):
            seen = (abs(scene.day - colour) < 2).all(axis=2)
            assert not (seen & ~mask).any()
            assert seen.sum() > 0.6 * mask.sum()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_objects_stay_visible_among_many(index):
    lone = mask_scene(5, index, 256, objects=(1, 1), longer_side=(24.0, 72.0)).masks
    many = mask_scene(5, index, 256, objects=(12, 12), longer_side=(24.0, 72.0)).masks
    assert len(lone) == 1
    # Both scenes draw the same numbers, so their first object is the same. Other objects may hide half of it.
    assert 0.5 * lone[0].sum() <= many[0].sum() <= lone[0].sum()
    assert many.sum(axis=(1, 2)).min() >= 40
    sides = [np.ptp(np.argwhere(mask), axis=0).max() + 1 for mask in lone]
    assert 20 <= max(sides) <= 1.2 * 72 + 1


@pytest.mark.parametrize("index", range(3))
def test_less_exposure_is_darker(index):
    scene = mask_scene(2, index)
    taken = [scene.day] + [at_night(scene, ev, 2, index) for ev in (-1, -2, -4, -6)]
    means = [picture.mean() for picture in taken]
    assert means == sorted(means, reverse=True)
    assert len(set(means)) == len(means)
    np.testing.assert_array_equal(taken[3], at_night(scene, -4, 2, index))


def test_the_set_is_read_by_pycocotools(tmp_path):
    annotations = write_mask_set(tmp_path, 9, 3, STOPS, 96)
    coco = COCO(str(annotations))
    assert {p.name for p in tmp_path.iterdir()} == {"day", "ev-2", "ev-4.5", annotations.name}
    for number, info in coco.imgs.items():
        scene = mask_scene(9, number, 96)
        np.testing.assert_array_equal(read_picture(tmp_path / "day" / info["file_name"]).pixels, scene.day)
        for ev in STOPS:
            taken = read_picture(tmp_path / f"ev{ev:g}" / info["file_name"]).pixels
            np.testing.assert_array_equal(taken, at_night(scene, ev, 9, number))
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        np.testing.assert_array_equal([coco.annToMask(a) for a in found], scene.masks)
        assert [a["area"] for a in found] == [coco_mask.area(a["segmentation"]) for a in found]
        assert [a["bbox"] for a in found] == [coco_mask.toBbox(a["segmentation"]).tolist() for a in found]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(size=24), "longer_side must rise from at least 8"),
        (dict(longer_side=(30, 20)), "got 30 to 20"),
        (dict(longer_side=(30, 120)), "at most 96 pixels"),
        (dict(objects=(0, 2)), "at least 1, got 0 to 2"),
        (dict(objects=(3, 2)), "got 3 to 2"),
    ],
)
def test_impossible_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mask_scene(0, 0, **arguments)


def test_impossible_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        write_mask_set(tmp_path, 0, 0)
    with pytest.raises(ValueError, match="below 0, got 0, 2"):
        write_mask_set(tmp_path, 0, 1, (-2.0, 0.0, 2.0))
    assert not list(tmp_path.iterdir())


def test_the_light_of_lamps_has_a_peak_of_one():
    light = night_scenes.lamps(np.random.default_rng(0), 40)
    assert light.shape == (40, 40, 3)
    assert light.max() == pytest.approx(1)
