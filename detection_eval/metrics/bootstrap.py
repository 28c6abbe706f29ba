"""The bootstrap over images: intervals of scores, and of the difference between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np


class Scores(Protocol):
    """The interface of scores that can be resampled, such as :class:`CocoScores` and :class:`VisDroneScores`."""

    image_ids: list[Any]

    def values(self, weights: np.ndarray | None = None) -> dict[str, Any]:
        """The scores by name: floats, or arrays ``(B,)`` for weights ``(B, n_images)``; nan where undefined."""


@dataclass(frozen=True)
class Interval:
    """A score or a difference, and its percentile interval; nan where undefined.

    >>> Interval(value=0.31, low=0.28, high=0.35).high
    0.35
    """

    value: float
    low: float
    high: float


def resample(n_images: int, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Draw ``n_images`` images with replacement, and count how often each image is drawn.

    >>> counts = resample(4, resamples=3)
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((3, 4), [4, 4, 4])

    Returns:
        The counts, ``(resamples, n_images)`` uint16; each row sums to ``n_images``. Equal arguments give equal counts.

    Raises:
        ValueError: There is no image, or ``resamples`` is below 1.
    """
    if n_images < 1 or resamples < 1:
        raise ValueError(f"n_images and resamples must be at least 1, got {n_images} and {resamples}")
    drawn = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=resamples)
    return drawn.astype(np.uint16)


def intervals(
    scores: Sequence[Scores], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """The mean of each score over ``scores``, with the percentile interval of a bootstrap over images.

    Each resample draws one set of images, computes every element of ``scores`` (one for each training seed) on it, and
    averages them. The interval therefore says how the mean varies with the images, not with the training. Resamples in
    which a score is undefined are left out; if they are more than half, the bounds are nan.

    >>> from detection_eval.metrics.masks import ItemScores
    >>> scores = ItemScores({name: {"iou": np.array([iou])} for name, iou in (("a", 0.5), ("b", 0.7), ("c", 0.9))})
    >>> interval = intervals([scores])["iou"]
    >>> round(interval.value, 3), interval.low < 0.7 < interval.high
    (0.7, True)

    Args:
        scores: Scores of the same images, one for each training seed.
        resamples: Number of resamples; with 0 the bounds are nan.
        seed: Seed of the resampling.
        level: Share of the resamples that lie in the interval.

    Raises:
        ValueError: ``scores`` is empty or belongs to different images, ``level`` is not in (0, 1), or ``resamples`` is
            negative.
    """
    drawn = _drawn(scores, resamples, seed, level)
    return {name: _interval(*each, level) for name, each in drawn.items()}


def differences(
    a: Sequence[Scores],
    b: Sequence[Scores],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """The mean of ``b`` minus the mean of ``a`` for each score, with its interval.

    A resample draws the same images for ``a`` and ``b``.

    >>> from detection_eval.metrics.masks import ItemScores
    >>> raw = ItemScores({"a": {"iou": np.array([0.5])}, "b": {"iou": np.array([0.7])}})
    >>> enhanced = ItemScores({"a": {"iou": np.array([0.6])}, "b": {"iou": np.array([0.8])}})
    >>> gain = differences([raw], [enhanced])["iou"]
    >>> round(gain.value, 3), round(gain.low, 3), round(gain.high, 3)
    (0.1, 0.1, 0.1)

    Args:
        a: Scores to subtract, one for each training seed.
        b: Scores of the same images, one for each training seed.
        resamples: Number of resamples; with 0 the bounds are nan.
        seed: Seed of the resampling.
        level: Share of the resamples that lie in the interval.

    Raises:
        ValueError: :func:`intervals` refuses the arguments, or ``a`` and ``b`` belong to different images or have
            different scores.
    """
    _same_images([*a, *b])
    before, after = _drawn(a, resamples, seed, level), _drawn(b, resamples, seed, level)
    if list(before) != list(after):
        raise ValueError(f"a and b have different scores: {', '.join(before)} and {', '.join(after)}")
    return {
        name: _interval(after[name][0] - before[name][0], after[name][1] - before[name][1], level) for name in before
    }


def _drawn(scores: Sequence[Scores], resamples: int, seed: int, level: float) -> dict[str, tuple[float, np.ndarray]]:
    """The mean over ``scores`` by name, and the means ``(resamples,)`` in the resamples."""
    if not scores:
        raise ValueError("there are no scores to resample")
    if not 0 < level < 1 or resamples < 0:
        raise ValueError(f"level {level} must be in (0, 1), resamples {resamples} at least 0")
    _same_images(scores)
    values, tables = [each.values() for each in scores], [_resampled(each, resamples, seed) for each in scores]
    return {
        name: (_mean([each[name] for each in values]), np.mean([each[name] for each in tables], axis=0))
        for name in values[0]
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# Several runs are compared with the same raw run. This table keeps the raw run's resampled scores, so that they are
# computed once.
_KEPT: WeakKeyDictionary[Any, dict[tuple[int, int], Mapping[str, np.ndarray]]] = WeakKeyDictionary()


def _resampled(scores: Scores, resamples: int, seed: int) -> Mapping[str, np.ndarray]:
    kept = _KEPT.setdefault(scores, {})
    if (resamples, seed) not in kept:
        count = len(scores.image_ids)
        drawn = resample(count, resamples, seed) if resamples else np.zeros((0, count), dtype=np.uint16)
        kept[resamples, seed] = scores.values(drawn)
    return kept[resamples, seed]


def _same_images(scores: Sequence[Scores]) -> None:
    for each in scores[1:]:
        ids = list(scores[0].image_ids), list(each.image_ids)
        if ids[0] != ids[1]:
            differing = next((f": {a} and {b}" for a, b in zip(*ids, strict=False) if a != b), "")
            counts = f"{len(ids[0])} and {len(ids[1])} images"
            raise ValueError(f"the scores must belong to the same images in the same order, got {counts}{differing}")


def _interval(value: float, drawn: np.ndarray, level: float) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not defined.size or 2 * defined.size < drawn.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))
