"""``panels`` of ``side_by_side.py`` draws a raw and an enhanced picture with the boxes of their detections."""

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'demo'")

from detection_eval.compare.changes import Change, Matches
from detection_eval.compare.side_by_side import FALSE, FOUND, MISSED, Pair, View, panels


def _matches(boxes, found_at, false=()):
    false = np.array(false, float).reshape(-1, 4)
    return Matches(
        np.array(boxes, float).reshape(-1, 4),
        np.ones(len(boxes)),
        np.array(found_at, float),
        false,
        np.ones(len(false)),
        np.full(len(false), 0.9),
    )


def _pair(raw, enhanced, before, after):
    return Pair("a.png", Change(1, 0, 0), View("raw", raw, before, 0.5), View("x", enhanced, after, 0.5))


def test_boxes_are_scaled_with_an_enlarged_picture():
    boxes, false = [[40, 80, 200, 240], [300, 300, 380, 390]], [[10, 20, 30, 40]]
    raw = np.zeros((400, 400, 3), np.uint8)
    pair = _pair(
        raw, np.zeros((800, 800, 3), np.uint8), _matches(boxes, [0.9, 0.1]), _matches(boxes, [0.9, 0.9], false)
    )
    before, after = panels(pair, {1: "cat"})
    assert before.image.shape == (400, 400, 3)
    assert after.image.shape == (800, 800, 3)
    by_colour = [{o.colour: o.boxes.tolist() for o in panel.overlays} for panel in (before, after)]
    assert by_colour[0] == {FALSE: [], FOUND: [boxes[0]], MISSED: [boxes[1]]}
    assert by_colour[1] == {
        FALSE: [[20, 40, 60, 80]],
        FOUND: [[80, 160, 400, 480], [600, 600, 760, 780]],
        MISSED: [],
    }
    assert len({o.dash for o in before.overlays}) == 3
    assert "1 of 2 annotated objects found, 0 false" in before.alt
    assert "2 of 2 annotated objects found, 1 false" in after.alt


def test_a_large_picture_is_cut_to_the_part_with_most_changes():
    cluster = [[1500 + 30 * i, 900, 1520 + 30 * i, 920] for i in range(5)]
    boxes = [[20, 20, 40, 40], *cluster]
    raw = np.zeros((1200, 2000, 3), np.uint8)
    pair = _pair(raw, raw, _matches(boxes, [0.1] * 6), _matches(boxes, [0.9] * 6))
    before, after = panels(pair, {1: "cat"})
    for panel in (before, after):
        assert panel.image.shape[1] == pytest.approx(640, abs=1)
        assert panel.image.shape[0] == pytest.approx(384, abs=1)
        assert "a part of the picture" in panel.alt
    placed = {o.colour: o.boxes for o in after.overlays}[FOUND]
    inside = ((placed[:, :2] >= 0) & (placed[:, 2:] <= [640, 384])).all(axis=1)
    assert inside.tolist() == [False, True, True, True, True, True]
    np.testing.assert_allclose(np.diff(placed[1:, 0]), 30)
    assert "6 of 6" in after.alt


def test_a_small_picture_is_enlarged_before_boxes_are_drawn():
    raw = np.arange(100 * 80 * 3, dtype=np.uint8).reshape(100, 80, 3)
    box = [[10, 10, 50, 50]]
    before, _ = panels(_pair(raw, raw, _matches(box, [0.1]), _matches(box, [0.9])), {1: "ä"})
    assert before.image.shape == (400, 320, 3)
    np.testing.assert_array_equal(before.image[::4, ::4], raw)
    (missed,) = [o for o in before.overlays if o.colour == MISSED]
    assert missed.boxes.tolist() == [[40, 40, 200, 200]]
    assert missed.labels == ["missed ?"]
