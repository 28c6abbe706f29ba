"""Prompts for a SAM, and a comparison of two of its answers."""

from __future__ import annotations

import numpy as np


def all_prompts(height: int, width: int) -> dict[str, dict]:
    """Arguments of ``SamPredictor.predict`` for an image of this size: points, a box, a mask, and all of them."""
    points = np.array([[width * 0.4, height * 0.3], [width * 0.9, height * 0.9]])
    box = np.array([width * 0.2, height * 0.1, width * 0.7, height * 0.6])
    mask = np.random.default_rng(0).normal(0, 5, (1, 32, 32)).astype(np.float32)
    return {
        "points": dict(point_coords=points, point_labels=np.array([1, 0])),
        "box": dict(box=box),
        "mask": dict(mask_input=mask),
        "all": dict(point_coords=points, point_labels=np.array([1, 0]), box=box, mask_input=mask),
    }


def assert_equal_results(own, expected) -> None:
    """Assert that masks, scores and low-resolution masks have the same shapes and dtypes, and are bit for bit equal."""
    assert len(own) == len(expected) == 3
    for mine, theirs in zip(own, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
