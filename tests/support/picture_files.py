"""Picture files, written by the library and read by Pillow; and lists of file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llie_preproc.pictures import Picture, write_picture
from tests.support.random_pictures import levels


def make_picture(path: Path, pixels: np.ndarray | None = None) -> Path:
    """Write ``pixels``, by default random ones of 12x16, and make missing folders; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(levels() if pixels is None else pixels))
    return path


def read_planes(path: Path) -> Tensor:
    """``(3, H, W)`` uint8 RGB, read by Pillow."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def files_below(folder: Path) -> list[str]:
    """Sorted paths of all files in the folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
