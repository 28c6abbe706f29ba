"""How the pictures of a comparison look: their brightness, and image-quality scores of raw and enhanced ones."""

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
    """Pictures of about one brightness.

    Attributes:
        label: Its name, and the mean luma of its pictures.
        weights: ``(n,)`` uint16: 1 for a picture that belongs to it, 0 for another.
    """

    label: str
    weights: np.ndarray

    @property
    def size(self) -> int:
        """How many pictures belong to it."""
        return int(self.weights.sum())


def mean_luma(pixels: np.ndarray) -> float:
    """Mean of BT.601's luma, 0 to 255, of ``(H, W, 3)`` uint8 RGB."""
    return float(pixels.reshape(-1, 3).mean(axis=0, dtype=np.float64) @ np.array(BT601))


def brightness_bins(luma: Sequence[float], edges: Sequence[float] | None = None) -> list[BrightnessBin]:
    """Share pictures out by brightness: each is in exactly one bin.

    Args:
        luma: Of every picture, 0 to 255.
        edges: Where one bin ends and the next, which the edge belongs to, begins; by default the tertiles of ``luma``.

    Raises:
        ValueError: No picture, or edges that do not ascend from 0 to 255.
    """
    values = np.asarray(luma, dtype=float)
    # Whatever is compared with NaN is false.
    if not len(values) or (edges is not None and not (np.diff([0, *edges, 255]) > 0).all()):
        raise ValueError(
            f"brightness takes a picture or more and ascending edges between 0 and 255, got {len(values)} and {edges}"
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
        niqe_model: ``niqe_pris_params.npz``; without it there is no NIQE.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: It holds something else.
    """

    def __init__(self, niqe_model: str | os.PathLike[str] | None = None) -> None:
        names = ["eme", "loe"] if niqe_model is None else ["eme", "loe", "niqe"]
        self._suite = QualitySuite(names, niqe_model=niqe_model)

    def describe(self) -> dict[str, str]:
        """The variant of each score, by its name."""
        return {LUMA: "BT.601 luma of the 8-bit picture, 0 to 255", **self._suite.describe()}

    def score(self, picture: np.ndarray, raw: np.ndarray) -> dict[str, float]:
        """The scores of one picture, by name.

        Args:
            picture: ``(s H, s W, 3)`` uint8 RGB.
            raw: ``(H, W, 3)``, what it was made of; itself for a raw picture.
        """
        shown, image = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) for x in (picture, raw))
        return {LUMA: mean_luma(picture), **self._suite.score(shown, image=image)}


def score_looks(
    looks: Looks, raw: np.ndarray, enhancers: Mapping[str, FrozenEnhancer], enhanced: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Scores of one raw picture and of what each enhancer makes of it, by label, ``'raw'`` first.

    Args:
        looks: What is scored.
        raw: ``(H, W, 3)`` uint8 RGB.
        enhancers: By label.
        enhanced: Results that are known already, by label.
    """
    scores = {"raw": looks.score(raw, raw)}
    for label, enhancer in enhancers.items():
        known = enhanced.get(label)
        scores[label] = looks.score(enhancer(raw) if known is None else known, raw)
    return scores


def mean_scores(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over pictures of what :func:`score_looks` gave, without those that a score is not defined for."""
    first = scores[0]
    return {
        label: {name: defined_mean([each[label][name] for each in scores]) for name in first[label]} for label in first
    }
