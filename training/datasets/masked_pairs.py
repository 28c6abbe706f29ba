"""Dark pictures with the masks of their objects and, if there are any, their well-lit references."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llie_preproc.checks import at_least
from llie_preproc.coco_json import flags, is_number, is_whole, read_json, require_inside
from llie_preproc.errors import require
from llie_preproc.pictures import pair_of
from llie_preproc.registry import DATASETS

from .base import MASKS, Layout, Pictures, PictureSet, alone, resize_masks


@dataclass
class _Annotated:
    """The size and the objects of a picture, as the annotation file has them."""

    width: int
    height: int
    objects: list[dict]


@DATASETS.register_module()
class MaskedPairs(PictureSet):
    """The pictures that an annotation file in COCO's format lists, with a mask for each object.

    An item is ``dict(inputs, data_samples)``. ``inputs`` is the picture ``(3, H, W)`` uint8 RGB. ``data_samples`` has
    ``img_path``, ``masks`` ``(n, H, W)`` uint8, 0 or 1, in the order of the file, and with ``high`` the reference
    ``target`` ``(3, sH, sW)``. A picture without objects has masks ``(0, H, W)``. An object that a crop cuts off has an
    empty mask.

    >>> import json, tempfile
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> box = dict(id=1, image_id=7, segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]])
    >>> image = dict(id=7, file_name="1.png", width=6, height=4)
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/1.png", Picture(np.zeros((4, 6, 3), np.uint8)))
    ...     _ = Path(root, "masks.json").write_text(json.dumps(dict(images=[image], annotations=[box])))
    ...     item = MaskedPairs(root, f"{root}/masks.json")[0]
    >>> item["data_samples"].masks.shape, int(item["data_samples"].masks.sum())
    (torch.Size([1, 4, 6]), 6)

    Args:
        low: Folder of the inputs. Pictures in it that the annotation file does not list are left out.
        ann_file: JSON file with ``images`` (``id``, ``file_name`` relative to ``low``, ``width``, ``height``) and
            ``annotations`` (``image_id``; ``segmentation``, which is polygons or run lengths, compressed or not). It
            describes the frame of the inputs. Regions of crowds (``iscrowd``) are left out, because they are not single
            objects.
        high: Folder of the references, with the same names. None: there are no references.
        size: Size to which the input is resized, an edge or ``(width, height)``, bilinear (OpenCV); the reference gets
            ``scale`` times that size, and masks take the nearest pixel. None keeps each picture's own size.
        scale: Factor by which a reference is wider and higher than its input.
        names: Names of the pictures to take, as in :class:`~training.datasets.PairedFolders`.
        transforms: Transforms, as in :class:`~training.datasets.PairedFolders`; they change the masks too.

    Raises:
        FileNotFoundError: The annotation file, a picture that it lists, or the reference of one is missing.
        ValueError: The annotation file has another format, a segmentation is missing, or a segmentation has another
            size than its picture; the message names the file and the annotation. When an item is read, a picture does
            not have the size that the file gives.
        MissingExtraError: pycocotools is not installed.
    """

    def __init__(
        self,
        low: str | os.PathLike[str],
        ann_file: str | os.PathLike[str],
        high: str | os.PathLike[str] | None = None,
        size: int | Sequence[int] | None = None,
        scale: int = 1,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
    ) -> None:
        require("pycocotools", "MaskedPairs")
        at_least("scale", scale, 1)
        base, self.ann_file = Path(low).expanduser(), Path(ann_file).expanduser()
        annotated = {base / name: entry for name, entry in _read(self.ann_file).items()}
        if missing := [path for path in annotated if not path.is_file()]:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(annotated)} pictures that {self.ann_file} lists are missing, the first: "
                f"{missing[0]}"
            )
        references = None if high is None else Path(high).expanduser()

        def references_of(path: Path) -> Mapping[str, Path]:
            return alone(path) if references is None else {"target": pair_of(path, base, references)}

        super().__init__(
            Layout(base, list(annotated), references_of, scales={"target": scale}), size, names, transforms
        )
        self.annotated = {entry["image"]: annotated[entry["image"]] for entry in self.entries}

    def _require_scales(self, entry: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]]) -> None:
        super()._require_scales(entry, sizes)
        said = self.annotated[entry["image"]]
        if sizes["image"] != (said.width, said.height):
            width, height = sizes["image"]
            raise ValueError(
                f"{entry['image']} is {width}x{height}, but {self.ann_file} says {said.width}x{said.height}"
            )

    def _load(self, entry: Mapping[str, Path]) -> Pictures:
        masks = self._masks(self.annotated[entry["image"]])
        return {**super()._load(entry), MASKS: masks if self.size is None else resize_masks(masks, self.size)}

    def _masks(self, annotated: _Annotated) -> Tensor:
        """The masks ``(n, H, W)`` uint8 of the picture's objects."""
        masks = torch.empty(len(annotated.objects), annotated.height, annotated.width, dtype=torch.uint8)
        for mask, each in zip(masks, annotated.objects, strict=True):
            try:
                mask.copy_(torch.from_numpy(_decoded(each["segmentation"], annotated.height, annotated.width)))
            except (ValueError, OverflowError, TypeError) as error:
                raise ValueError(
                    f"{self.ann_file}: the segmentation of annotation {each.get('id')} cannot be read: {error}"
                ) from error
        return masks


def _decoded(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask ``(H, W)`` uint8 that polygons or run lengths describe."""
    from pycocotools import mask

    if isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], str):
        return mask.decode(segmentation)
    runs = mask.frPyObjects(segmentation, height, width)
    return mask.decode(mask.merge(runs) if isinstance(runs, list) else runs)


def _read(path: Path) -> dict[str, _Annotated]:
    """The size and the objects of each picture in the file, by name.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file has another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"ann_file must be a file, but there is none at {path}")
    content = read_json(path)
    by_id: dict[Any, _Annotated] = {}
    by_name: dict[str, _Annotated] = {}
    for row in _rows(content, "images", path):
        number, name, width, height = (row.get(key, ()) for key in ("id", "file_name", "width", "height"))
        whole = all(is_whole(n) for n in (number, width, height))
        if not isinstance(name, str) or not whole or min(width, height) < 1:
            raise ValueError(f"{path}: an image must have id, file_name, width and height, got {_short(row)}")
        require_inside(name, f"{path}: file_name")
        if number in by_id or name in by_name:
            raise ValueError(f"{path}: image {number} ({name}) is listed a second time")
        by_id[number] = by_name[name] = _Annotated(width, height, [])
    rows = _rows(content, "annotations", path)
    crowds = flags(rows, "iscrowd", f"{path}: annotations")
    for row, crowd in zip(rows, crowds, strict=True):
        number = row.get("image_id")
        if not is_whole(number) or number not in by_id:
            raise ValueError(f"{path}: annotation {row.get('id')} has the image_id {number!r}, which no image has")
        if crowd:
            continue
        annotated = by_id[number]
        _check(row, annotated, path)
        annotated.objects.append({"id": row.get("id"), "segmentation": row["segmentation"]})
    return by_name


def _rows(content: Any, key: str, path: Path) -> list[dict]:
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not in COCO's format: it has no list of {key}")
    return rows


def _check(row: dict, annotated: _Annotated, path: Path) -> None:
    """Raise ``ValueError`` unless an annotation's segmentation is polygons or run lengths of its picture's size."""
    segmentation, where = row.get("segmentation"), f"{path}: annotation {row.get('id')}"
    if isinstance(segmentation, list) and segmentation and all(map(_is_polygon, segmentation)):
        return
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), (str, list)):
        raise ValueError(f"{where}: segmentation must be polygons or run lengths, got {_short(segmentation)}")
    if segmentation.get("size") != [annotated.height, annotated.width]:
        raise ValueError(
            f"{where}: the segmentation has the size (height, width) {segmentation.get('size')}, but its picture has "
            f"{[annotated.height, annotated.width]}"
        )
    counts, pixels = segmentation["counts"], annotated.height * annotated.width
    # pycocotools does not define the pixels that no run reaches.
    if isinstance(counts, list) and (not all(is_whole(n) and n >= 0 for n in counts) or sum(counts) != pixels):
        raise ValueError(f"{where}: run lengths must be whole numbers that add up to {pixels}, got {_short(counts)}")


def _is_polygon(points: Any) -> bool:
    """Whether these are at least three points x1 y1 x2 y2 ...; pycocotools would read four numbers as a box."""
    numbers = isinstance(points, list) and all(is_number(n) and math.isfinite(n) for n in points)
    return numbers and len(points) >= 6 and len(points) % 2 == 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."
