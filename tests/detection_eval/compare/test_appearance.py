"""``appearance.py`` groups pictures by brightness, and scores a raw picture and the enhanced ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'demo'")

from detection_eval.compare.appearance import Looks, brightness_bins, mean_luma, mean_scores, score_looks
from llie_preproc import FrozenEnhancer


@given(
    st.lists(st.floats(0, 255), min_size=1, max_size=30),
    st.none() | st.lists(st.integers(1, 254), min_size=1, max_size=4, unique=True).map(sorted),
)
def test_each_picture_is_in_one_brightness_bin(luma, edges):
    bins = brightness_bins(luma, edges)
    np.testing.assert_array_equal(np.sum([each.weights for each in bins], axis=0), np.ones(len(luma)))
    assert sum(each.size for each in bins) == len(luma)
    order = [max(np.array(luma)[each.weights > 0], default=-math.inf) for each in bins]
    starts = [min(np.array(luma)[each.weights > 0], default=math.inf) for each in bins]
    for i in range(len(bins)):
        assert all(order[i] <= start for start in starts[i + 1 :])


def test_given_edges_are_the_limits_of_the_brightness_bins():
    bins = brightness_bins([5.0, 20.0, 19.9, 80.0], [20, 60])
    assert [each.weights.tolist() for each in bins] == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert [each.label for each in bins] == ["luma 0 to 20.0", "luma 20.0 to 60.0", "luma 60.0 to 255"]
    for edges, luma in (([60, 20], [1.0]), ([20, 20], [1.0]), ([math.nan], [1.0]), ([20, 300], [1.0]), (None, [])):
        with pytest.raises(ValueError, match="ascending"):
            brightness_bins(luma, edges)


def test_mean_luma_weights_the_colours():
    assert mean_luma(np.full((4, 5, 3), 77, np.uint8)) == pytest.approx(77)
    assert mean_luma(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)) == pytest.approx(255 * (0.299 + 0.587) / 2)


def test_a_given_enhanced_picture_is_not_enhanced_again():
    raw = np.random.default_rng(0).integers(0, 99, (64, 64, 3)).astype(np.uint8)
    looks = Looks()
    scores = score_looks(looks, raw, {"gamma": FrozenEnhancer("GammaCorrection")}, {"gamma": raw})
    assert scores["gamma"] == scores["raw"]
    assert scores["raw"]["loe"] == 0
    means = mean_scores([{"raw": {"a": 1.0, "b": math.nan}}, {"raw": {"a": 2.0, "b": 5.0}}])
    assert means == {"raw": {"a": 1.5, "b": 5.0}}
