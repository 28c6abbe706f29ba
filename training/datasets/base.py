"""What all sets of pictures share: the choice of files, reading, transforms, and the check before training."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset

from llie_preproc.errors import ImageError
from llie_preproc.pictures import convert_depth, picture_size, read_picture
from llie_preproc.registry import TRANSFORMS

from .samplers import seeded_by

Pictures = dict[str, Tensor]
"""``image`` and its references (``target``, ``target_x1``): ``(3, H, W)`` uint8 RGB, references a whole number times
as large as ``image``."""

_SHOWN = 3


def alone(path: Path) -> Mapping[str, Path]:
    """No references: the ``references_of`` of pictures by themselves."""
    return {}


def every(path: Path) -> bool:
    """True: the ``keep`` of sets that are taken whole."""
    return True


@dataclass(frozen=True)
class Layout:
    """The files of a set.

    Attributes:
        base: Names of pictures are relative to it.
        inputs: All inputs.
        references_of: The references of an input by field; they need not exist.
        references: Those that must be used by some input; one that is not is an error.
        scales: How many times as large as the input a field is; 1 for those not in it.
        keep: Which of the inputs are items.
    """

    base: Path
    inputs: Sequence[Path]
    references_of: Callable[[Path], Mapping[str, Path]] = alone
    references: Sequence[Path] = ()
    scales: Mapping[str, int] | None = None
    keep: Callable[[Path], bool] = every


class PictureSet(Dataset):
    """The pictures of a layout, with their references.

    An item is ``dict(inputs, data_samples)``: ``inputs`` ``(3, H, W)`` uint8 RGB, ``data_samples.img_path`` and each
    reference under its field (``target``), ``(3, sH, sW)`` uint8 RGB. Transforms draw from PyTorch's CPU generator,
    seeded by the draw where the index is a :class:`~training.datasets.Draw`.

    Args:
        layout: The files.
        size: An edge or ``(width, height)`` to resize the input to, bilinear (OpenCV), references to that times their
            scale; None keeps each picture's own.
        names: The pictures to take: names relative to the layout's base, suffix included, or the path of a text file
            that lists them, one a line. None: all.
        transforms: Configs of registered transforms, or callables, from a dict of pictures to another.

    Raises:
        FileNotFoundError: A picture without its reference or a reference without a picture, the files named; or a
            name that is not there.
        ValueError: No picture is left, or a size that is not positive.
    """

    def __init__(
        self,
        layout: Layout,
        size: int | Sequence[int] | None = None,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
    ) -> None:
        self.size = None if size is None else edges(size)
        self.scales = dict(layout.scales or {})
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms]
        chosen = layout.inputs if names is None else _named(layout, names)
        entries = [{"image": p, **layout.references_of(p)} for p in chosen]
        _require_references(entries)
        if names is None:
            _require_inputs(layout.references, entries)
        self.entries = [entry for entry in entries if layout.keep(entry["image"])]
        if not self.entries:
            raise ValueError(f"none of the {len(entries)} pictures below {layout.base} are left by what was chosen")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        pictures = self._load(entry)
        with seeded_by(index):
            for transform in self.transforms:
                pictures = transform(pictures)
        # A crop is a view, with which the whole picture would travel between processes.
        pictures = {k: v.clone(memory_format=torch.contiguous_format) for k, v in pictures.items()}
        image = pictures.pop("image")
        return {
            "inputs": image,
            "data_samples": BaseDataElement(metainfo={"img_path": str(entry["image"])}, **pictures),
        }

    def check(self) -> None:
        """Read the header of every picture (nothing is decoded) and compare sizes.

        Raises:
            ValueError: A header cannot be read, a reference is not its scale times as large as its input, or a picture
                is smaller than the crop that it meets. The first few are named with their sizes, and the number of
                them.
        """
        size_of = functools.lru_cache(maxsize=None)(picture_size)
        problems = [p for entry in self.entries if (p := self._problem(entry, size_of))]
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise ValueError(
                f"{len(problems)} of {len(self)} pictures cannot be used: {'; '.join(problems[:_SHOWN])}{more}"
            )

    def _problem(self, entry: Mapping[str, Path], size_of: Callable[[Path], tuple[int, int]]) -> str | None:
        try:
            sizes = {field: size_of(path) for field, path in entry.items()}
        except (ImageError, OSError) as error:
            return str(error)
        if mismatch := self._mismatch(entry, sizes):
            return mismatch
        size = self.size or sizes["image"]
        for transform in self.transforms:
            try:
                size = getattr(transform, "output_size", _unchanged)(*size)
            except ValueError as error:
                return f"{entry['image']}: {error}"
        return None

    def _mismatch(self, entry: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]]) -> str | None:
        """What is wrong with the sizes ``(width, height)`` of the references."""
        width, height = sizes["image"]
        for field, size in sizes.items():
            scale = self.scales.get(field, 1)
            if size != (scale * width, scale * height):
                return (
                    f"{entry['image']} is {width}x{height} and its {field} {entry[field]} {size[0]}x{size[1]}, "
                    f"expected {scale * width}x{scale * height}"
                )
        return None

    def _load(self, entry: Mapping[str, Path]) -> Pictures:
        read = {path: load_tensor(path) for path in set(entry.values())}
        sizes = {field: (read[path].shape[2], read[path].shape[1]) for field, path in entry.items()}
        if mismatch := self._mismatch(entry, sizes):
            raise ValueError(mismatch)
        return {field: self._resize(read[path], field) for field, path in entry.items()}

    def _resize(self, picture: Tensor, field: str) -> Tensor:
        scale = self.scales.get(field, 1)
        return picture if self.size is None else resize(picture, (scale * self.size[0], scale * self.size[1]))


def load_tensor(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Tensor:
    """Read a picture as ``(3, H, W)`` uint8 RGB, resized to ``size`` (width, height) where given."""
    pixels = convert_depth(read_picture(path).pixels, np.uint8)
    picture = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return picture if size is None else resize(picture, size)


def resize(picture: Tensor, size: Sequence[int]) -> Tensor:
    """``(3, H, W)`` uint8 to ``size`` (width, height), bilinear, not smoothed first (OpenCV's ``INTER_LINEAR``)."""
    width, height = size
    if picture.shape[1:] == (height, width):
        return picture
    pixels = cv2.resize(picture.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def edges(size: int | Sequence[int]) -> tuple[int, int]:
    """``(width, height)`` of a size, which may be one edge.

    Raises:
        ValueError: Not positive whole numbers.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in pair):
        raise ValueError(f"size must be a positive whole number or (width, height) of such, got {size!r}")
    return pair[0], pair[1]


def _unchanged(width: int, height: int) -> tuple[int, int]:
    return width, height


def _named(layout: Layout, names: Sequence[str] | str | os.PathLike[str]) -> list[Path]:
    """The inputs of ``names``, in that order."""
    where = f"below {layout.base}"
    if isinstance(names, (str, os.PathLike)):
        where += f", listed in {names}"
        names = [line.strip() for line in Path(names).expanduser().read_text().splitlines()]
    there = {path.relative_to(layout.base).as_posix(): path for path in layout.inputs}
    wanted = [name for name in names if name]
    if not wanted:
        raise ValueError(f"no names are given {where}")
    if missing := [name for name in wanted if name not in there]:
        shown = ", ".join(missing[:_SHOWN])
        raise FileNotFoundError(f"{len(missing)} of {len(wanted)} names are no pictures {where}: {shown}")
    return [there[name] for name in wanted]


def _require_references(entries: Iterable[Mapping[str, Path]]) -> None:
    for entry in entries:
        for path in entry.values():
            if not path.is_file():
                raise FileNotFoundError(f"{entry['image']} has no pair: there is no {path}")


def _require_inputs(references: Iterable[Path], entries: Iterable[Mapping[str, Path]]) -> None:
    used = {path for entry in entries for path in entry.values()}
    if unused := [path for path in references if path not in used]:
        shown = ", ".join(map(str, unused[:_SHOWN]))
        raise FileNotFoundError(f"{len(unused)} references have no input: {shown}")
