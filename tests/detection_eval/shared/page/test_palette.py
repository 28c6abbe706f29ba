"""``palette.py``: colours contrast with light and dark pages, and can be told apart by colour-blind readers."""

import re

import cv2
import numpy as np
import pytest

from detection_eval.shared.page.palette import COLOURS, hues


def _linear(colour):
    levels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _luminance(colour):
    return _linear(colour) @ [0.2126, 0.7152, 0.0722]


def test_colours_stand_out_on_a_light_and_a_dark_page():
    """The contrast is WCAG's, with the backgrounds of the light and of the dark page."""
    assert len(set(COLOURS)) >= 9
    for colour in COLOURS:
        for page in ("#ffffff", "#1d2126"):
            low, high = sorted((_luminance(colour), _luminance(page)))
            assert (high + 0.05) / (low + 0.05) > 2.2


# Matrices of Machado, Oliveira and Fernandes (2009) for severity 1, in linear RGB.
_NO_RED = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
_NO_GREEN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]


@pytest.mark.parametrize(("sight", "least"), [(np.eye(3), 35), (_NO_RED, 20), (_NO_GREEN, 20)])
def test_colours_are_told_apart_by_the_colour_blind(sight, least):
    """The distance is that of CIE L*a*b*; a distance of about 2 is just noticeable."""
    seen = np.array([np.array(sight) @ _linear(colour) for colour in COLOURS]).clip(0, 1)
    lab = cv2.cvtColor(
        np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)[None].astype(np.float32),
        cv2.COLOR_RGB2LAB,
    )[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert apart[~np.eye(len(lab), dtype=bool)].min() > least


def test_hues_are_different_and_do_not_depend_on_their_number():
    colours = hues(60)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert len(set(colours)) == 60
    assert hues(9) == colours[:9]
