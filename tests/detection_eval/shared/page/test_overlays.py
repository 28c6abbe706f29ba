"""``overlays.py`` draws boxes and masks on the right pixels of a picture."""

import cv2
import numpy as np
import pytest

from detection_eval.shared.page.overlays import Overlay, draw, paint_masks


def test_pictures_of_16_bits_and_of_floats_are_drawn_as_8_bits():
    level = np.full((20, 20, 3), 0.4)
    pictures = [(level * 255).astype(np.uint8), (level * 65535).astype(np.uint16), level.astype(np.float32)]
    for image in pictures:
        np.testing.assert_allclose(draw(image, (), 20), 102, atol=1)


def test_boxes_are_scaled_with_a_shrunk_picture():
    image = np.zeros((200, 400, 3), np.uint8)
    before = image.copy()
    overlay = Overlay(np.array([[40, 80, 320, 160]]), ["cat"], "#ff0000")
    drawn = draw(image, [overlay], max_side=200)
    np.testing.assert_array_equal(image, before)
    red = (drawn == [255, 0, 0]).all(axis=2)
    rows, columns = np.flatnonzero(red[60:].any(axis=1)) + 60, np.flatnonzero(red.any(axis=0))
    assert abs(rows[-1] - 80) <= 1
    assert abs(columns[0] - 20) <= 1
    assert abs(columns[-1] - 160) <= 1
    assert not drawn[50:70, 40:140].any()


def test_a_label_at_the_border_stays_inside():
    overlay = Overlay(np.array([[-5, -5, 30, 30], [95, 90, 140, 140]]), ["motorcycle 0.99", "cup"])
    drawn = draw(np.zeros((100, 100, 3), np.uint8), [overlay], 100)
    bright = drawn[..., 0] > 150
    assert bright[:20].any()
    assert bright[70:92, 70:].any()


@pytest.mark.parametrize("dash", [2, 7])
def test_a_dashed_box_follows_the_solid_one_and_has_gaps(dash):
    box = np.array([[20, 30, 120, 90]])
    canvas = np.zeros((120, 160, 3), np.uint8)
    solid = draw(canvas, [Overlay(box)], 160).any(axis=2)
    dashed = draw(canvas, [Overlay(box, dash=dash)], 160).any(axis=2)
    near = cv2.dilate(solid.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert not (dashed & ~near).any()
    assert 0.3 < dashed.sum() / solid.sum() < 0.95
    for row, column in ((30, 20), (30, 120), (90, 20), (90, 120)):
        assert dashed[row, column]


def test_a_dashed_box_of_no_size_is_drawn():
    drawn = draw(np.zeros((9, 9, 3), np.uint8), [Overlay(np.array([[4, 4, 4, 4]]), dash=7)], 9)
    assert drawn.any()


def test_masks_are_blended_and_small_ones_are_drawn_on_top():
    image = np.full((40, 60, 3), 100, np.uint8)
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 10:20, 10:20] = masks[1, 5:35, 5:50] = True
    painted = paint_masks(image, masks, ["#ff0000", "#0000ff"], alpha=0.5, outline=1)
    assert (image == 100).all()
    assert (painted[~masks.any(axis=0)] == 100).all()
    np.testing.assert_allclose(painted[25, 30], [50, 50, 178], atol=1)
    # The small mask is drawn over the larger one.
    np.testing.assert_allclose(painted[15, 15], [152, 25, 89], atol=1)
    np.testing.assert_array_equal(painted[10, 10:20], [[255, 0, 0]] * 10)
    np.testing.assert_array_equal(painted[5, 5:50], [[0, 0, 255]] * 45)
    np.testing.assert_array_equal(paint_masks(image, masks[:0], []), image)


def test_masks_at_the_border_have_an_outline_only_if_asked():
    masks = np.ones((1, 6, 6), bool)
    outlined = paint_masks(np.zeros((6, 6, 3), np.uint8), masks, ["#646464"], alpha=0.5, outline=2)
    assert (outlined == 100).all(axis=2).sum() == 36 - 4
    plain = paint_masks(np.zeros((6, 6, 3), np.uint8), masks, ["#646464"], alpha=0.5, outline=0)
    assert (plain == 50).all()


def test_masks_that_do_not_fit_the_picture_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) with 1 colours do not fit a picture of shape \(5, 4, 3\)"):
        paint_masks(np.zeros((5, 4, 3), np.uint8), np.ones((1, 4, 4), bool), ["#ffffff"])
    with pytest.raises(ValueError, match="with 2 colours"):
        paint_masks(np.zeros((4, 4, 3), np.uint8), np.ones((1, 4, 4), bool), ["#ffffff"] * 2)
