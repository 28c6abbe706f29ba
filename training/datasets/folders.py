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

from llie_preproc.pictures import SUFFIXES, convert_depth, read_picture
from llie_preproc.registry import DATASETS


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Picture files below ``folder``, sorted by path.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
    """
    root = Path(folder).expanduser()
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise FileNotFoundError(f"no pictures below {root}" if root.is_dir() else f"no folder {root}")
    return files


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
        self.files, self.size = picture_files(low), size
        low_root, high_root = Path(low).expanduser(), Path(high).expanduser()
        self.targets = [high_root / p.relative_to(low_root) for p in self.files]
        for path, target in zip(self.files, self.targets, strict=True):
            if not target.is_file():
                raise FileNotFoundError(f"{path} has no pair: there is no {target}")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, target_path = self.files[index], self.targets[index]
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
