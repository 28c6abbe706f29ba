"""``MaskedPairs`` reads masks of COCO files as pycocotools does, transforms them with pictures, and checks both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torch.utils.data import DataLoader

from llie_preproc.registry import DATASETS
from tests.support.made_trees import enlarged, pixels_of, save
from training.datasets import (
    ConcatenatedSets,
    Draw,
    MaskedPairs,
    PairedRandomCrop,
    PairedResize,
    RandomDihedral,
    RandomFlip,
)
from training.methods.base import BytesToUnit

POLYGON = [2, 1, 9, 1, 9, 7, 4, 8]


def runs(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    """COCO's run lengths of a mask, compressed by pycocotools or counted here."""
    if compressed:
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = mask.T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def labelled(seed: int, width: int, height: int, objects: int) -> np.ndarray:
    """A picture whose red channel holds, for each pixel, the number of its object, or 0."""
    picture = pixels_of(seed, width, height)
    picture[..., 0] = np.random.default_rng(seed).integers(0, objects + 1, (height, width))
    return picture


def masks_in(picture: np.ndarray, objects: int) -> np.ndarray:
    return np.stack([picture[..., 0] == k + 1 for k in range(objects)])


def write(root: Path, sizes: list[tuple[int, int]], objects: list[int], scale: int = 1) -> dict[str, Any]:
    """Write pictures ``<i>.png`` into ``low``, enlarged ones into ``high``, and annotations; return the annotations."""
    images, annotations = [], []
    for i, ((width, height), number) in enumerate(zip(sizes, objects, strict=True)):
        picture = labelled(i, width, height, number)
        save(root / "low" / "sub" / f"{i}.png", picture)
        save(root / "high" / "sub" / f"{i}.png", enlarged(picture, scale))
        images.append({"id": 7 + i, "file_name": f"sub/{i}.png", "width": width, "height": height})
        for mask in masks_in(picture, number) if number else []:
            row = {"id": len(annotations) + 1, "image_id": 7 + i, "category_id": 1, "iscrowd": 0}
            annotations.append(row | {"segmentation": runs(mask, compressed=len(annotations) % 2 == 0)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return content


@pytest.fixture
def made(tmp_path):
    return tmp_path, write(tmp_path, [(12, 10)] * 3, [2, 0, 3])


def masked(root: Path, **options: Any) -> MaskedPairs:
    settings = {"low": str(root / "low"), "ann_file": str(root / "annotations.json"), "high": str(root / "high")}
    return DATASETS.build({"type": "llie_preproc.MaskedPairs", **settings, **options})


def test_masks_equal_those_of_pycocotools(made, capsys):
    root, content = made
    content["annotations"] += [
        {"id": 50, "image_id": 8, "category_id": 1, "segmentation": [POLYGON, [0, 0, 3, 0, 3, 3]], "iscrowd": 0},
        {"id": 51, "image_id": 8, "category_id": 1, "segmentation": runs(np.ones((10, 12))), "iscrowd": 1},
    ]
    (root / "annotations.json").write_text(json.dumps(content))
    coco = COCO(root / "annotations.json")
    dataset = masked(root)
    dataset.check(batched=True)
    for i, number in ((7, 2), (8, 1), (9, 3)):
        sample = dataset[i - 7]["data_samples"]
        expected = [coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds([i], iscrowd=0))]
        assert sample.img_path == str(root / "low" / "sub" / f"{i - 7}.png")
        assert sample.masks.dtype == torch.uint8
        assert len(expected) == number
        assert np.array_equal(sample.masks.numpy(), np.stack(expected))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    objects=st.integers(0, 4),
    scale=st.sampled_from([1, 2]),
    steps=st.lists(st.sampled_from([PairedRandomCrop(4), RandomDihedral(), RandomFlip()]), max_size=3),
)
def test_masks_are_transformed_with_their_picture(tmp_path_factory, seed, size, objects, scale, steps):
    root = tmp_path_factory.mktemp("follow")
    write(root, [size], [objects], scale)
    item = masked(root, scale=scale, transforms=steps)[Draw(0, seed)]
    picture, sample = item["inputs"].permute(1, 2, 0).numpy(), item["data_samples"]
    assert np.array_equal(sample.target.permute(1, 2, 0).numpy(), enlarged(picture, scale))
    assert sample.masks.shape == (objects, *picture.shape[:2])
    assert sample.masks.is_contiguous()
    if objects:
        assert np.array_equal(sample.masks.numpy(), masks_in(picture, objects))


@pytest.mark.parametrize("options", [{"size": (7, 5)}, {"transforms": [PairedResize((7, 5))]}])
def test_masks_are_resized_to_the_nearest_pixel(made, options):
    root, _ = made
    whole = masked(root)
    for i, item in enumerate(map(masked(root, **options).__getitem__, range(3))):
        masks = whole[i]["data_samples"].masks.numpy()
        resized = [np.asarray(Image.fromarray(m).resize((7, 5), Image.Resampling.NEAREST)) for m in masks]
        assert item["data_samples"].masks.shape == (len(masks), 5, 7)
        assert item["data_samples"].masks.tolist() == [r.tolist() for r in resized]
        assert item["inputs"].shape == (3, 5, 7)


def test_pictures_with_different_numbers_of_masks_make_a_batch(made):
    root, _ = made
    loaded = DataLoader(masked(root), batch_size=3, collate_fn=pseudo_collate, num_workers=1)
    batch = BytesToUnit()(next(iter(loaded)), training=True)
    assert batch["inputs"].shape == (3, 3, 10, 12)
    assert [len(sample.masks) for sample in batch["data_samples"]] == [2, 0, 3]


def test_listed_pictures_and_their_pairs_are_read(made):
    root, _ = made
    save(root / "low" / "unlisted.png", pixels_of(9))
    dataset = masked(root, high=None)
    assert [e["image"].name for e in dataset.entries] == ["0.png", "1.png", "2.png"]
    assert set(dataset[0]["data_samples"].keys()) == {"masks"}
    assert len(masked(root, names=["sub/2.png"])[0]["data_samples"].masks) == 3
    assert len(ConcatenatedSets([dataset, masked(root)])) == 6
    with pytest.raises(FileNotFoundError, match=r"names belong to no picture .*unlisted\.png"):
        masked(root, names=["unlisted.png"])
    (root / "high" / "sub" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"low/sub/1\.png has no pair: there is no .*high/sub/1\.png"):
        masked(root)
    (root / "low" / "sub" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 pictures that .*annotations\.json .*low/sub/1\.png"):
        masked(root, high=None)
    with pytest.raises(FileNotFoundError, match=r"ann_file must be a file, .*none\.json"):
        masked(root, ann_file=root / "none.json")
    with pytest.raises(ValueError, match="scale must be"):
        masked(root, scale=0)


def test_the_check_compares_annotated_sizes_with_the_pictures(made):
    root, _ = made
    save(root / "low" / "sub" / "1.png", pixels_of(1, 20, 10))
    save(root / "high" / "sub" / "1.png", pixels_of(1, 20, 10))
    message = r"low/sub/1\.png is 20x10, but .*annotations\.json says 12x10"
    with pytest.raises(ValueError, match=rf"1 of 3 pictures cannot be used: .*{message}"):
        masked(root).check()
    with pytest.raises(ValueError, match=message):
        masked(root)[1]
    with pytest.raises(ValueError, match="smaller than the crop"):
        masked(root, transforms=[PairedRandomCrop(11)]).check()


def broken(content: dict[str, Any], part: str, **changes: Any) -> dict[str, Any]:
    rows = [dict(row) for row in content[part]]
    rows[1].update(changes)
    return {**content, part: rows}


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("images", {"file_name": 3}, "an image must have id, file_name, width and height, got {"),
        ("images", {"width": "12"}, "an image must have id"),
        ("images", {"height": 0}, "an image must have id"),
        ("images", {"id": 7}, "image 7 (sub/1.png) is listed a second time"),
        ("images", {"file_name": "sub/0.png"}, "image 8 (sub/0.png) is listed a second time"),
        ("annotations", {"image_id": 99}, "annotation 2 has the image_id 99, which no image has"),
        ("annotations", {"image_id": [7]}, "annotation 2 has the image_id [7], which no image has"),
        ("annotations", {"segmentation": None}, "annotation 2: segmentation must be polygons or run lengths, got None"),
        ("annotations", {"segmentation": []}, "annotation 2: segmentation must be"),
        ("annotations", {"segmentation": [[1, 2, 3, 4]]}, "annotation 2: segmentation must be"),
        ("annotations", {"segmentation": {"size": [10, 12]}}, "annotation 2: segmentation must be"),
        (
            "annotations",
            {"segmentation": runs(np.ones((12, 10)))},
            "annotation 2: the segmentation has the size (height, width) [12, 10], but its picture has [10, 12]",
        ),
    ],
)
def test_wrong_entries_are_named(made, part, changes, message):
    root, content = made
    path = root / "annotations.json"
    path.write_text(json.dumps(broken(content, part, **changes)))
    with pytest.raises(ValueError) as error:
        masked(root)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["[]", "{", "\udcff", '{"images": []}', '{"images": {}, "annotations": []}', "[1]"])
def test_files_of_another_format_are_refused(made, text):
    root, _ = made
    (root / "annotations.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"annotations\.json (is not JSON|is not in COCO's format)"):
        masked(root)


@pytest.mark.parametrize("counts", [[30, 200], [-1, 121], ["a"], [3, 2], [60.5, 59.5]])
def test_invalid_run_lengths_are_refused(made, counts):
    root, content = made
    path = root / "annotations.json"
    path.write_text(json.dumps(broken(content, "annotations", segmentation={"size": [10, 12], "counts": counts})))
    message = f"{path}: annotation 2: run lengths must be whole numbers that add up to 120, got {counts}"
    with pytest.raises(ValueError, match=re.escape(message)):
        masked(root)


def test_compressed_run_lengths_beyond_the_picture_are_refused(made):
    root, content = made
    path = root / "annotations.json"
    long = {"size": [10, 12], "counts": runs(np.ones((20, 20)))["counts"]}
    path.write_text(json.dumps(broken(content, "annotations", segmentation=long)))
    message = re.escape(f"{path}: the segmentation of annotation 2 cannot be read: ")
    with pytest.raises(ValueError, match=message):
        masked(root)[0]
