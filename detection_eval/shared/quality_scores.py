"""Scoring of several enhancers, and of the unchanged pictures, by the metrics of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from llie_preproc.errors import one_line

from ..metrics import QualitySuite
from ..metrics.arrays import matlab_resize

Pictures = tuple[torch.Tensor, torch.Tensor | None]
"""Input ``(3, H, W)`` uint8, and its reference if there is one."""
Candidate = Callable[[np.ndarray], np.ndarray]
"""Function from an input ``(H, W, 3)`` uint8 to the result ``(s H, s W, 3)`` that is scored."""


@dataclass
class Scores:
    """Scores of a set of pictures.

    Attributes:
        rows: Scores of each picture (:meth:`detection_eval.metrics.QualitySuite.score`), by row, in the order of names.
        names: Names of the scored pictures.
        failed: Message for each picture that could not be scored.
    """

    rows: dict[str, list[dict[str, Any]]]
    names: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a picture by the usual baseline of super-resolution, MATLAB's bicubic interpolation.

    Args:
        pixels: Picture ``(H, W, 3)`` uint8.
        scale: Whole factor of height and width.

    Returns:
        Picture ``(s H, s W, 3)``, rounded to uint8.

    Examples:
        >>> enlarged(np.full((2, 3, 3), 7, np.uint8), 2).shape
        (4, 6, 3)
    """
    if scale == 1:
        return pixels
    size = (scale * pixels.shape[0], scale * pixels.shape[1])
    bands = [matlab_resize(pixels[..., band].astype(np.float64), size) for band in range(3)]
    return np.floor(np.stack(bands, axis=2) + 0.5).clip(0, 255).astype(np.uint8)


def score_pictures(
    items: Sequence[tuple[str, Callable[[], Pictures]]],
    candidates: Mapping[str, Candidate],
    suite: QualitySuite,
    device: str,
) -> Scores:
    """Score the results of each candidate for each picture.

    Args:
        items: Name of each picture, and the function that reads it.
        candidates: Functions that make the results, by row of the table.
        suite: Metrics that score the results.
        device: Device that computes the metrics.

    Returns:
        Scores of all rows. A picture that cannot be scored for one row is left out of all.
    """
    scores = Scores({row: [] for row in candidates})
    for name, read in tqdm(items, unit="picture", disable=None):
        try:
            image, target = read()
            added = list(_rows(image, target, candidates, suite, device))
        except (OSError, ValueError, torch.OutOfMemoryError) as error:
            reason = one_line(error)
            scores.failed.append(reason if name in reason else f"{name}: {reason}")
            continue
        scores.names.append(name)
        for row, each in zip(scores.rows.values(), added, strict=True):
            row.append(each)
    return scores


def _rows(
    image: torch.Tensor,
    target: torch.Tensor | None,
    candidates: Mapping[str, Candidate],
    suite: QualitySuite,
    device: str,
) -> Iterator[dict[str, Any]]:
    """Score the picture for each row."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    target = None if target is None else target.to(device)
    for candidate in candidates.values():
        result = torch.from_numpy(candidate(pixels)).permute(2, 0, 1).to(device)
        if target is not None and result.shape != target.shape:
            raise ValueError(
                f"the result has the shape {tuple(result.shape)} and its reference {tuple(target.shape)}; expected "
                f"the same shape (the input has {tuple(image.shape)})"
            )
        yield suite.score(result, target, image.to(device))
