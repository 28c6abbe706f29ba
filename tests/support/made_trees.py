"""Small picture folders in the layouts of real sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.random_pictures import levels


def pixels_of(seed: int, width: int = 12, height: int = 10) -> np.ndarray:
    return levels(seed, (height, width))


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG under any suffix, so that no pixel changes; readers look at the first bytes, not at the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


def save_pair(low: Path, high: Path, seed: int, scale: int = 1) -> None:
    """Write an input and its target: 255 minus the input, each pixel repeated ``scale`` times."""
    pixels = pixels_of(seed)
    save(low, pixels)
    save(high, enlarged(255 - pixels, scale))


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)
