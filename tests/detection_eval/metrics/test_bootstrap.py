"""``bootstrap.py``: intervals of scores agree with closed forms, and paired differences are narrower."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

from detection_eval.metrics.bootstrap import Interval, differences, intervals, resample
from detection_eval.metrics.coco import CocoScores
from tests.support.made_detections import made_scene


class Means:
    """The mean of one value for each image; it is undefined where no image of ``needed`` has a weight."""

    def __init__(self, values, needed=slice(None)):
        self.own, self.needed = np.asarray(values, dtype=float), needed
        self.image_ids = list(range(len(self.own)))

    def values(self, weights=None):
        w = np.ones(len(self.own)) if weights is None else np.asarray(weights, dtype=float)
        with np.errstate(invalid="ignore"):
            mean = (w * self.own).sum(-1) / w.sum(-1)
        mean = np.where(w[..., self.needed].sum(-1) > 0, mean, np.nan)
        return {"mean": mean if mean.ndim else float(mean)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 50), st.integers(0, 1000))
def test_resamples_draw_as_many_images_as_there_are(images, resamples, seed):
    drawn = resample(images, resamples, seed)
    assert (drawn.shape, drawn.dtype) == ((resamples, images), np.uint16)
    assert (drawn.sum(axis=1) == images).all()
    assert (drawn == resample(images, resamples, seed)).all()


def test_images_are_drawn_with_equal_chances():
    drawn = resample(200, 2000, seed=1)
    assert drawn.mean(axis=0) == pytest.approx(np.ones(200), abs=0.15)
    assert (drawn == 0).mean() == pytest.approx((1 - 1 / 200) ** 200, abs=0.003)
    assert (drawn != resample(200, 2000, seed=2)).any()


def test_the_interval_of_a_mean_follows_its_standard_error():
    values = np.random.default_rng(0).normal(0.4, 0.1, 400)
    interval = intervals([Means(values)], resamples=8000)["mean"]
    error = values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )
    narrow = intervals([Means(values)], resamples=8000, level=0.5)["mean"]
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 * error, rel=0.06)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    trials = [intervals([Means(rng.exponential(1.0, 80))], resamples=300)["mean"] for _ in range(400)]
    covered = np.mean([each.low <= 1 <= each.high for each in trials])
    # An interval of 80 skewed values covers a little less than 95 %; 400 trials have a standard error of 1.1 %.
    assert 0.90 <= covered <= 0.98


def test_seeds_are_averaged_within_a_resample():
    rng = np.random.default_rng(1)
    runs = [Means(rng.random(50)) for _ in range(3)]
    together = intervals(runs, resamples=200)["mean"]
    of_mean = intervals([Means(np.mean([run.own for run in runs], axis=0))], resamples=200)["mean"]
    assert (together.value, together.low, together.high) == pytest.approx((of_mean.value, of_mean.low, of_mean.high))


def test_equal_runs_have_a_difference_of_zero():
    truth, detections = made_scene(4, images=8)
    same = differences([CocoScores(truth, detections)], [CocoScores(truth, detections)], resamples=50)
    defined = {name: each for name, each in same.items() if not math.isnan(each.value)}
    assert defined
    assert all(each == Interval(0.0, 0.0, 0.0) for each in defined.values())


def test_pairing_narrows_the_interval_of_correlated_runs():
    rng = np.random.default_rng(2)
    hard = rng.random(300)
    before, after = Means(hard + rng.normal(0, 0.02, 300)), Means(hard + 0.05 + rng.normal(0, 0.02, 300))
    paired = differences([before], [after], resamples=2000)["mean"]
    unpaired = math.hypot(*(each["mean"].high - each["mean"].low for each in (intervals([before]), intervals([after]))))
    assert paired.high - paired.low < 0.2 * unpaired
    assert paired.low > 0
    error = (after.own - before.own).std() / np.sqrt(300)
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    swapped = differences([after], [before], resamples=2000)["mean"]
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-paired.value, -paired.high, -paired.low))


def test_a_seed_gives_one_result():
    runs = [Means(np.random.default_rng(5).random(40))]
    again = [Means(runs[0].own)]
    assert intervals(runs, 100, seed=7) == intervals(again, 100, seed=7)
    assert intervals(runs, 100, seed=7) != intervals(again, 100, seed=8)


def test_up_to_half_of_the_resamples_may_be_undefined():
    values = np.arange(10.0)
    # The needed image is missing from (1 - 1/10)^10 = 35 % of the resamples.
    some = intervals([Means(values, needed=[0])], resamples=500)["mean"]
    drawn = resample(10, 500)
    kept = (drawn[drawn[:, 0] > 0] @ values) / 10
    assert (some.low, some.high) == pytest.approx(tuple(np.quantile(kept, [0.025, 0.975])))

    class Rare(Means):
        def values(self, weights=None):
            result = super().values(weights)
            return (
                result if weights is None else {"mean": np.where(np.asarray(weights)[:, 0] > 1, result["mean"], np.nan)}
            )

    rare = intervals([Rare(values)], resamples=500)["mean"]
    assert rare.value == 4.5
    assert math.isnan(rare.low)
    assert math.isnan(rare.high)
    none = intervals([Means([np.nan] * 3)], resamples=20)["mean"]
    assert math.isnan(none.value)
    assert math.isnan(none.low)


def test_without_resamples_there_are_no_bounds():
    interval = intervals([Means([0.0, 1.0])], resamples=0)["mean"]
    assert interval.value == 0.5
    assert math.isnan(interval.low)


def test_bad_arguments_are_refused():
    runs = [Means([1.0, 2.0])]
    for call, message in (
        (lambda: intervals([]), "no scores"),
        (lambda: intervals(runs, level=1.0), "level 1.0"),
        (lambda: intervals(runs, resamples=-1), "resamples -1"),
        (lambda: intervals([*runs, Means([1.0])]), "same images in the same order"),
        (lambda: differences(runs, [Means([1.0, 2.0, 3.0])]), "same images in the same order"),
        (lambda: resample(0), "at least 1, got 0 and 1000"),
        (lambda: resample(3, 0), "at least 1, got 3 and 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
