"""Bootstrap over images: intervals of scores and of the difference between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np


class Scores(Protocol):
    """What is resampled: :class:`CocoScores`, :class:`VisDroneScores`, or any with these."""

    image_ids: list[Any]

    def values(self, weights: np.ndarray | None = None) -> dict[str, Any]:
        """Scores by name: floats, or for weights ``(B, n_images)`` arrays ``(B,)``; nan where undefined."""


@dataclass(frozen=True)
class Interval:
    """A score or a difference, and its percentile interval; nan where undefined."""

    value: float
    low: float
    high: float


def resample(n_images: int, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each image is drawn, ``n_images`` draws with replacement.

    Returns:
        ``(resamples, n_images)`` uint16, the same for the same arguments; each row sums to ``n_images``.

    Raises:
        ValueError: There is no image, or less than one resample is asked for.
    """
    if n_images < 1 or resamples < 1:
        raise ValueError(f"{n_images} images resampled {resamples} times: both must be at least 1")
    drawn = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=resamples)
    return drawn.astype(np.uint16)


def intervals(
    scores: Sequence[Scores], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Each score's mean over ``scores``, with the percentile interval of a bootstrap over images.

    A resample draws the same images for all of ``scores``: training seeds are averaged within it, and the interval is
    that of other images, not of other trainings. Resamples in which a score is undefined are left out; where they are
    more than half the bounds are nan.

    Args:
        scores: One for each training seed, of the same images.
        resamples: Number of resamples; 0: bounds are nan.
        seed: Of the resampling.
        level: The interval's share of the resamples.

    Raises:
        ValueError: ``scores`` is empty or of different images, ``level`` is not in (0, 1), ``resamples`` is negative.
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
    """``b`` minus ``a`` for each score, each the mean over its sequence, both resampled with the same images.

    Args:
        a: One for each training seed.
        b: Of the same images as ``a``.
        resamples: See :func:`intervals`.
        seed: See :func:`intervals`.
        level: See :func:`intervals`.

    Raises:
        ValueError: See :func:`intervals`; ``a`` and ``b`` are of different images or have different scores.
    """
    _same_images([*a, *b])
    before, after = _drawn(a, resamples, seed, level), _drawn(b, resamples, seed, level)
    if list(before) != list(after):
        raise ValueError(f"scores differ: {', '.join(before)} and {', '.join(after)}")
    return {
        name: _interval(after[name][0] - before[name][0], after[name][1] - before[name][1], level) for name in before
    }


def _drawn(scores: Sequence[Scores], resamples: int, seed: int, level: float) -> dict[str, tuple[float, np.ndarray]]:
    """By name the mean over ``scores``, and ``(resamples,)`` of it in each resample."""
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


# A raw run is compared with several: what it scores in a resample is computed once.
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
        if list(each.image_ids) != list(scores[0].image_ids):
            raise ValueError(
                f"scores are of different images: {len(scores[0].image_ids)} and {len(each.image_ids)} of them"
            )


def _interval(value: float, drawn: np.ndarray, level: float) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not defined.size or 2 * defined.size < drawn.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))
