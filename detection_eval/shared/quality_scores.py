"""Metrics of what enhancers make of pictures, beside those of the pictures as they are."""

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
"""The input, ``(3, H, W)`` uint8, and its reference."""
Candidate = Callable[[np.ndarray], np.ndarray]
"""What makes of ``(H, W, 3)`` uint8 a result that is scored, ``(s H, s W, 3)``."""


@dataclass
class Scores:
    """What all pictures added, by row, in the order of ``names``; and what was wrong with the others."""

    rows: dict[str, list[dict[str, Any]]]
    names: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    """As super-resolution's tables have their baseline: MATLAB's bicubic interpolation, rounded to 8 bits."""
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
    """Score what each candidate makes of each picture.

    Args:
        items: Name of each picture, and the function that reads it.
        candidates: Rows of the table.
        suite: Metrics.
        device: Device that computes them.

    Returns:
        The scores; a picture that cannot be scored is in none of the rows.
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
    """What the picture adds to each row."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    target = None if target is None else target.to(device)
    for candidate in candidates.values():
        result = torch.from_numpy(candidate(pixels)).permute(2, 0, 1).to(device)
        if target is not None and result.shape != target.shape:
            raise ValueError(
                f"the result and its reference differ in shape: {tuple(result.shape)}, {tuple(target.shape)} (the "
                f"input: {tuple(image.shape)})"
            )
        yield suite.score(result, target, image.to(device))
