"""The photographs of the demo: the samples that come with scikit-image, or the pictures of a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from llie_preproc.pictures import is_picture, read_rgb8

LICENCES = "scikit-image's sample pictures (public domain or CC0; motorcycle: Middlebury stereo benchmark)"

# The number of scikit-image's LFW faces, their enlargement, and the columns of a sheet. The detector finds no face
# smaller than 20 pixels.
_LFW_COUNT, _LFW_ENLARGE, _LFW_COLUMNS = 100, 3, 5


@lru_cache
def sample(name: str) -> np.ndarray:
    """Return a photograph by the name of its ``skimage.data`` function.

    Returns:
        Read-only picture ``(H, W, 3)`` RGB uint8; a grey one has three equal channels.

    Examples:
        >>> sample("camera").shape
        (512, 512, 3)
    """
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    image.setflags(write=False)
    return image


def face_sheets() -> dict[str, np.ndarray]:
    """Return pictures with real faces: the astronaut, and sheets of the 100 faces of ``skimage.data.lfw_subset``.

    The faces of the sheets are grey and have 25x25 pixels; cubic interpolation enlarges them three times.
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
    """Read the pictures of a folder as 8-bit RGB, by file name.

    Args:
        folder: Folder of the pictures.
        limit: Number of pictures to read, the first by name; None for all.

    Raises:
        FileNotFoundError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: --real must name the data folder that has it")
    paths = sorted(filter(is_picture, folder.iterdir()))[:limit]
    if not paths:
        raise FileNotFoundError(f"no pictures in {folder}")
    return {p.name: read_rgb8(p) for p in paths}


def _tile(tiles: Sequence[np.ndarray]) -> np.ndarray:
    rows = [np.hstack(tiles[i : i + _LFW_COLUMNS]) for i in range(0, len(tiles), _LFW_COLUMNS)]
    return np.repeat(np.vstack(rows)[..., None], 3, axis=2)
