"""The pictures of a measurement, with their reference pictures and box prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from llie_preproc.coco_json import require_pictures
from llie_preproc.pictures import picture_files

from ..datasets.formats.darkface import darkface
from ..datasets.labels import Problems
from ..metrics.detections import read_truth
from ..metrics.masks import Rle, check_rle, encode_masks


class Prompts(NamedTuple):
    """Box prompts of a picture.

    Attributes:
        boxes: Boxes ``(n, 4)`` left, top, width, height, measured at the edges of pixels.
        masks: Annotated mask of each box, or None for a box without one; None if the annotations have no masks.
        size: Height and width of the picture by the annotations; None if they give no size.
    """

    boxes: np.ndarray
    masks: list[Rle | None] | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def require_frame(self, size: tuple[int, int]) -> None:
        """Raise ``ValueError`` if the annotations or a mask belong to a picture of another size than ``(H, W)``."""
        masks = [tuple(mask["size"]) for mask in self.masks or () if mask is not None]
        for said in [*([] if self.size is None else [self.size]), *masks]:
            if said != size:
                raise ValueError(f"the picture has {size} pixels (height, width), but its annotations say {said}")


@dataclass
class PictureSet:
    """Set of pictures. The name of a picture is its path below the folder.

    Attributes:
        files: Files of the pictures that have all that is requested, by name.
        references: Files of the reference pictures, by name; None if they are not requested.
        prompts: Box prompts of the pictures, by name; None if they are not requested.
        problems: Message for each picture without a reference or annotation, and for each annotation without a picture.
        box_source: Description of the boxes.
    """

    files: dict[str, Path]
    references: dict[str, Path] | None = None
    prompts: dict[str, Prompts] | None = None
    problems: list[str] = field(default_factory=list)
    box_source: str = ""

    @property
    def annotated(self) -> bool:
        """Whether the annotations have masks."""
        return any(each.masks is not None for each in (self.prompts or {}).values())


def read_pictures(images: Path, reference: Path | None, boxes: Path | None, limit: int | None = None) -> PictureSet:
    """List the pictures of a folder with their references and prompts.

    Args:
        images: Folder of the pictures.
        reference: Folder of the references, which have the names of the pictures; None for no references.
        boxes: DARK FACE's folder of texts, a list of pseudo-labels, or COCO annotations (``.json``); None for no
            prompts.
        limit: Number of pictures to use, the first by name; None for all.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: The annotations are damaged, or no picture has all that is requested.
    """
    root = images.expanduser()
    found = PictureSet({path.relative_to(root).as_posix(): path for path in picture_files(root)})
    if boxes is not None:
        _add_boxes(found, root, boxes.expanduser())
    if reference is not None:
        _add_references(found, reference.expanduser())
    if not found.files:
        raise ValueError(f"no picture below {root} has all that is requested; for example: {found.problems[0]}")
    found.files = dict(sorted(found.files.items())[:limit])
    return found


def _add_references(found: PictureSet, root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root} of references")
    there = {name: root / name for name in found.files if (root / name).is_file()}
    found.problems += [f"{path}: there is no reference {root / name}" for name, path in found.files.items()
                       if name not in there]  # fmt: skip
    found.files = {name: path for name, path in found.files.items() if name in there}
    found.references = there


def _add_boxes(found: PictureSet, root: Path, source: Path) -> None:
    of_coco = source.suffix.lower() == ".json"
    found.prompts = _coco_prompts(found, source) if of_coco else _darkface_prompts(found, root, source)
    found.files = {name: path for name, path in found.files.items() if name in found.prompts}


def _darkface_prompts(found: PictureSet, root: Path, source: Path) -> dict[str, Prompts]:
    orphans = Problems(skip_bad=True)
    labels = darkface(root, source).complete(orphans)
    found.problems += orphans.skipped
    found.box_source = labels.format
    return {
        # The reader of DARK FACE's texts does not use the size of the picture.
        labels.name(key): Prompts(_sized([box.xywh for box in labels.read(key, (0, 0), Problems()).boxes]))
        for key in labels.pictures
    }


def _sized(boxes: list[Any]) -> np.ndarray:
    """Convert boxes to ``(n, 4)``, and leave out boxes without size, which show nothing."""
    table = np.array(boxes, np.float64).reshape(-1, 4)
    return table[(table[:, 2:] > 0).all(axis=1)]


def _coco_prompts(found: PictureSet, source: Path) -> dict[str, Prompts]:
    truth = read_truth(source)
    sized = any("width" in image or "height" in image for image in truth["images"])
    require_pictures(truth, str(source), sizes=sized)
    images = {image["id"]: image for image in truth["images"]}
    names = {image["file_name"] for image in images.values()}
    found.problems += [f"{source}: there is no picture {name}" for name in sorted(names - found.files.keys())]
    found.problems += [f"{path}: the picture has no annotation" for name, path in found.files.items()
                       if name not in names]  # fmt: skip
    found.box_source = f"boxes of {source.name}"
    objects: dict[str, list[Mapping[str, Any]]] = {name: [] for name in names & found.files.keys()}
    for each in truth["annotations"]:
        # A crowd region has many objects, and a box without size shows nothing, so neither is a prompt.
        if (
            (name := images[each["image_id"]]["file_name"]) in objects
            and not each.get("iscrowd")
            and min(each["bbox"][2:]) > 0
        ):
            objects[name].append(each)
    annotated = any(each.get("segmentation") for of_one in objects.values() for each in of_one)
    sizes = {image["file_name"]: (image.get("height"), image.get("width")) for image in images.values()}
    return {
        name: Prompts(
            _sized([each["bbox"] for each in of_one]),
            [_annotated_mask(each, images[each["image_id"]], source) for each in of_one] if annotated else None,
            None if None in sizes[name] else sizes[name],
        )
        for name, of_one in objects.items()
    }


def _annotated_mask(annotation: Mapping[str, Any], image: Mapping[str, Any], source: Path) -> Rle | None:
    given = annotation.get("segmentation")
    if not given:
        return None
    try:
        if isinstance(given, Mapping) and isinstance(given["counts"], str):
            (mask,) = encode_masks([given])
            # pycocotools does not check a mask, and would read past its end.
            check_rle(mask)
            return mask
        rles = coco_masks.frPyObjects(given, image["height"], image["width"])
        return encode_masks([coco_masks.merge(rles) if isinstance(rles, list) else rles])[0]
    # pycocotools raises errors of any class.
    except Exception as error:
        raise ValueError(
            f"{source}: the segmentation of annotation {annotation['id']!r} is no COCO mask ({error!r})"
        ) from error
