"""The masks of a picture, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llie_preproc.coco_json import read_json
from llie_preproc.files import write_text

from ..metrics.masks import Rle, check_rle, encode_masks, mask_boxes
from ..shared.resume import as_read, read_kept, require_same

_FIELDS = ("segmentation", "predicted_iou", "stability_score")


class Found(NamedTuple):
    """Masks of a picture, in its raw frame.

    Attributes:
        masks: Masks as ``n`` compressed RLEs.
        predicted_iou: SAM's estimate of each mask's IoU, ``(n,)`` float64.
        stability_score: Stability of each mask, ``(n,)`` float64.
    """

    masks: Sequence[Rle]
    predicted_iou: np.ndarray
    stability_score: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)

    def coco(self, image_id: int) -> list[dict[str, Any]]:
        """Convert the masks to entries of COCO's results format, with the predicted IoU as score."""
        columns = dict(
            segmentation=[dict(mask) for mask in self.masks],
            bbox=mask_boxes(self.masks).tolist(),
            score=self.predicted_iou.tolist(),
            stability_score=self.stability_score.tolist(),
        )
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True), image_id=image_id, category_id=1) for row in rows]


@dataclass(frozen=True)
class Kept:
    """Folder of masks. It has a JSON file for each picture, with ``made_with``, ``made_of`` and ``masks``.

    Args:
        folder: Folder, which is created when the first file is written.
        made_with: Everything that the masks depend on besides the picture and its prompts, as plain values.
    """

    folder: Path
    made_with: Mapping[str, Any]

    def read(self, name: str, made_of: Mapping[str, Any]) -> Found | None:
        """Read the masks of a picture; None if there are none, or if the picture or its prompts have changed.

        Args:
            name: Name of the picture, its path below its folder.
            made_of: Digests of the picture's files, and its prompts, as plain values.

        Raises:
            ValueError: The file was made with other settings, or is damaged.
        """
        path = self._path(name)
        kept = read_kept(path, _read)
        if kept is None:
            return None
        require_same(path, kept.made_with, self.made_with)
        return kept.found if kept.made_of == as_read(made_of) else None

    def write(self, name: str, made_of: Mapping[str, Any], found: Found) -> None:
        """Write the masks of a picture, atomically."""
        columns = (found.masks, found.predicted_iou.tolist(), found.stability_score.tolist())
        masks = [dict(zip(_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)]
        content = dict(made_with=self.made_with, made_of=made_of, masks=masks)
        write_text(self._path(name), json.dumps(content))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


class _Content(NamedTuple):
    """Content of a file."""

    made_with: Any
    made_of: Any
    found: Found


def _read(path: Path) -> _Content:
    content = read_json(path)
    table = [[each[field] for field in _FIELDS] for each in content["masks"]]
    found = Found(
        encode_masks([row[0] for row in table]),
        np.array([row[1] for row in table], np.float64),
        np.array([row[2] for row in table], np.float64),
    )
    _check(found)
    return _Content(content["made_with"], content["made_of"], found)


def _check(found: Found) -> None:
    """Raise ``ValueError`` for damaged masks: pycocotools does not check them, and would read past their end."""
    for mask in found.masks:
        check_rle(mask)
    if not (np.isfinite(found.predicted_iou).all() and np.isfinite(found.stability_score).all()):
        raise ValueError("a score is not finite")
