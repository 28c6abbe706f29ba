"""The photographs of the demo: scikit-image's, which lie in its wheel, or those of a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from llie_preproc.pictures import is_picture, read_rgb8

LICENCES = "scikit-image's sample pictures (public domain or CC0; motorcycle: Middlebury stereo benchmark)"

# Side of scikit-image's LFW faces, and how they are laid out for a detector whose smallest face is 20 pixels.
_LFW_COUNT, _LFW_ENLARGE, _LFW_COLUMNS = 100, 3, 5


@lru_cache
def sample(name: str) -> np.ndarray:
    """A photograph by the name of its ``skimage.data`` function, ``(H, W, 3)`` RGB uint8, read-only.

    Grey ones are repeated to three equal channels.
    """
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    image.setflags(write=False)
    return image


def face_sheets() -> dict[str, np.ndarray]:
    """Pictures with real faces: the astronaut, and contact sheets of the 100 faces of ``skimage.data.lfw_subset``.

    Those are grey and of 25x25 pixels; they are enlarged three times, by cubic interpolation.
    """
    faces = (data.lfw_subset()[:_LFW_COUNT] * 255).round().astype(np.uint8)
    size = faces.shape[1] * _LFW_ENLARGE
    tiles = [cv2.resize(face, (size, size), interpolation=cv2.INTER_CUBIC) for face in faces]
    per_sheet = _LFW_COLUMNS**2
    sheets = {"astronaut": sample("astronaut")}
    for number, start in enumerate(range(0, len(tiles), per_sheet), 1):
        sheets[f"LFW sheet {number}"] = _tile(tiles[start : start + per_sheet])
    return sheets


def folder_photographs(folder: Path, limit: int | None = None) -> dict[str, np.ndarray]:
    """The first ``limit`` pictures of a folder, by file name, as 8-bit RGB.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: --real takes the folder that holds it")
    paths = sorted(filter(is_picture, folder.iterdir()))[:limit]
    if not paths:
        raise FileNotFoundError(f"no pictures in {folder}")
    return {p.name: read_rgb8(p) for p in paths}


def _tile(tiles: Sequence[np.ndarray]) -> np.ndarray:
    rows = [np.hstack(tiles[i : i + _LFW_COLUMNS]) for i in range(0, len(tiles), _LFW_COLUMNS)]
    return np.repeat(np.vstack(rows)[..., None], 3, axis=2)
