"""Folders of pictures, alone or in pairs of equal names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from llie_preproc.pictures import convert_depth, paired_files, picture_files, read_picture
from llie_preproc.registry import DATASETS


@DATASETS.register_module()
class UnpairedFolder(Dataset):
    """The pictures below a folder.

    An item is ``dict(inputs=(3, H, W) uint8 RGB tensor, data_samples)`` with ``data_samples.img_path``.

    Args:
        folder: Searched with its subfolders.
        size: ``(width, height)`` to resize to, bilinear (OpenCV); None keeps each picture's own.
    """

    def __init__(self, folder: str, size: tuple[int, int] | None = None) -> None:
        self.files, self.size = picture_files(folder), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.files[index]
        return {"inputs": load_tensor(path, self.size), "data_samples": _sample(path)}


@DATASETS.register_module()
class PairedFolders(Dataset):
    """Pictures of two folders that pair by relative name.

    An item is ``dict(inputs, data_samples)``: ``inputs`` ``(3, H, W)`` uint8 RGB, ``data_samples.img_path`` and
    ``data_samples.target``, the reference, of the same shape and dtype.

    Args:
        low: Folder of the inputs.
        high: Folder of the references.
        size: As for :class:`UnpairedFolder`, both pictures.

    Raises:
        FileNotFoundError: A picture without its pair; the message names both files.
    """

    def __init__(self, low: str, high: str, size: tuple[int, int] | None = None) -> None:
        self.pairs, self.size = paired_files(low, high), size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, target_path = self.pairs[index]
        image, target = load_tensor(path, self.size), load_tensor(target_path, self.size)
        if image.shape != target.shape:
            raise ValueError(f"{path} and {target_path} differ in shape: {tuple(image.shape)}, {tuple(target.shape)}")
        return {"inputs": image, "data_samples": _sample(path, target=target)}


def load_tensor(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> torch.Tensor:
    """Read a picture as ``(3, H, W)`` uint8 RGB, resized to ``size`` (width, height) where given."""
    pixels = convert_depth(read_picture(path).pixels, np.uint8)
    if size is not None and pixels.shape[1::-1] != tuple(size):
        pixels = cv2.resize(pixels, tuple(size), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _sample(path: Path, **tensors: torch.Tensor) -> BaseDataElement:
    return BaseDataElement(metainfo={"img_path": str(path)}, **tensors)
