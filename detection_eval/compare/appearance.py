"""The appearance of a comparison's pictures: brightness, and image-quality scores of raw and enhanced ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llie_preproc import FrozenEnhancer
from llie_preproc.luma import BT601

from ..metrics import QualitySuite
from ..metrics.meters import defined_mean

LUMA = "mean luma"
_TERTILES = ("darkest third", "middle third", "brightest third")


@dataclass(frozen=True)
class BrightnessBin:
    """Pictures of similar brightness.

    Attributes:
        label: Name of the bin, with its range of mean luma.
        weights: Weight of each picture, ``(n,)`` uint16: 1 if it belongs to the bin, 0 otherwise.
    """

    label: str
    weights: np.ndarray

    @property
    def size(self) -> int:
        """Number of pictures in the bin."""
        return int(self.weights.sum())


def mean_luma(pixels: np.ndarray) -> float:
    """Average BT.601's luma, 0 to 255, over a picture ``(H, W, 3)`` uint8 RGB.

    Examples:
        >>> round(mean_luma(np.full((2, 2, 3), [255, 0, 0], np.uint8)), 3)
        76.245
    """
    return float(pixels.reshape(-1, 3).mean(axis=0, dtype=np.float64) @ np.array(BT601))


def brightness_bins(luma: Sequence[float], edges: Sequence[float] | None = None) -> list[BrightnessBin]:
    """Divide pictures into bins of brightness, so that each picture is in exactly one bin.

    Args:
        luma: Mean luma of each picture, 0 to 255.
        edges: Borders between the bins; a picture on a border is in the brighter bin. None takes the tertiles of
            ``luma``.

    Returns:
        Bins in the order of their brightness.

    Raises:
        ValueError: There is no picture, or the edges do not ascend between 0 and 255.

    Examples:
        >>> [(each.label, each.size) for each in brightness_bins([10, 20, 200], edges=[100])]
        [('luma 0 to 100.0', 2), ('luma 100.0 to 255', 1)]
    """
    values = np.asarray(luma, dtype=float)
    # The condition is written so that NaN, which makes every comparison false, is refused.
    if not len(values) or (edges is not None and not (np.diff([0, *edges, 255]) > 0).all()):
        raise ValueError(
            f"brightness bins need a picture and ascending edges between 0 and 255, got {len(values)} pictures and the "
            f"edges {edges}"
        )
    cuts = np.quantile(values, (1 / 3, 2 / 3)) if edges is None else np.asarray(edges, dtype=float)
    places = np.searchsorted(cuts, values, side="right")
    return [
        BrightnessBin(_name(place, cuts, edges is None), (places == place).astype(np.uint16))
        for place in range(len(cuts) + 1)
    ]


def _name(place: int, cuts: np.ndarray, tertiles: bool) -> str:
    low = f"{cuts[place - 1]:.1f}" if place else "0"
    high = f"{cuts[place]:.1f}" if place < len(cuts) else "255"
    span = f"luma {low} to {high}"
    return f"{_TERTILES[place]}, {span}" if tertiles else span


class Looks:
    """Image-quality scores that need no reference: mean luma, EME, LOE against the raw picture, and NIQE.

    Args:
        niqe_model: File ``niqe_pris_params.npz``; None to leave NIQE out.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is no model of NIQE.

    Examples:
        >>> grey = np.full((32, 32, 3), 128, np.uint8)
        >>> {name: round(score, 3) for name, score in Looks().score(grey, grey).items()}
        {'mean luma': 128.0, 'eme': 0.0, 'loe': 0.0}
    """

    def __init__(self, niqe_model: str | os.PathLike[str] | None = None) -> None:
        names = ["eme", "loe"] if niqe_model is None else ["eme", "loe", "niqe"]
        self._suite = QualitySuite(names, niqe_model=niqe_model)

    def describe(self) -> dict[str, str]:
        """Describe the exact variant of each score, by its name."""
        return {LUMA: "BT.601 luma of the 8-bit picture, 0 to 255", **self._suite.describe()}

    def score(self, picture: np.ndarray, raw: np.ndarray) -> dict[str, float]:
        """Score one picture by each score, by name.

        Args:
            picture: Picture to score, ``(s H, s W, 3)`` uint8 RGB.
            raw: Raw picture ``(H, W, 3)`` that it was made from; a raw picture is compared with itself.
        """
        shown, image = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) for x in (picture, raw))
        return {LUMA: mean_luma(picture), **self._suite.score(shown, image=image)}


def score_looks(
    looks: Looks, raw: np.ndarray, enhancers: Mapping[str, FrozenEnhancer], enhanced: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Score a raw picture and the results of enhancers for it.

    Args:
        looks: Scores to compute.
        raw: Raw picture ``(H, W, 3)`` uint8 RGB.
        enhancers: Enhancers by label.
        enhanced: Results that exist already, by label.

    Returns:
        Scores by label, ``'raw'`` first, and by name.
    """
    scores = {"raw": looks.score(raw, raw)}
    for label, enhancer in enhancers.items():
        known = enhanced.get(label)
        scores[label] = looks.score(enhancer(raw) if known is None else known, raw)
    return scores


def mean_scores(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Average results of :func:`score_looks` over pictures; undefined scores do not count."""
    first = scores[0]
    return {
        label: {name: defined_mean([each[label][name] for each in scores]) for name in first[label]} for label in first
    }
