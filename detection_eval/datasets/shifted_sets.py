"""Sets of pictures as if they had been taken in too little or too much light."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc.enhance_files import plan_jobs
from llie_preproc.errors import ImageError, why_failed
from llie_preproc.files import real_path
from llie_preproc.pictures import Picture, convert_depth, picture_files, read_picture, write_picture

from .coco import images_of

Relight = Callable[[np.ndarray], np.ndarray]
"""Function of a picture ``(H, W, 3)`` RGB uint8 that returns it in other light, of the same shape and depth."""

_SUFFIX = "png"
# Threads suffice, because encoding releases Python's lock.
_THREADS = min(8, os.cpu_count() or 1)


def relight_set(
    pictures: Path, out: Path, lights: Mapping[str, Relight], resume: bool = False, overwrite: bool = False
) -> tuple[int, list[str]]:
    """Write a tree of the same pictures in other light for each light.

    Pictures of more than 8 bits are reduced to 8 bits; alpha channel, EXIF data and colour profile are kept.

    >>> import tempfile
    >>> from llie_preproc.exposures import Exposure
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/day/1.png", Picture(np.full((4, 6, 3), 128, np.uint8)))
    ...     _ = relight_set(Path(root, "day"), Path(root, "night"), {"ev_-3": Exposure(-3.0).photograph})
    ...     read_picture(f"{root}/night/ev_-3/1.png").pixels.shape
    (4, 6, 3)

    Args:
        pictures: Folder of the pictures; its subfolders are searched too.
        out: Folder of the trees.
        lights: Function that makes a picture of each tree, by the name of the tree's folder in ``out``.
        resume: Whether to keep pictures that exist already.
        overwrite: Whether to replace pictures that exist already.

    Returns:
        The number of pictures that were made or existed already, and a message for each picture that could not be read
        or written.

    Raises:
        FileNotFoundError: The folder is missing or holds no picture.
        ValueError: ``out`` is inside ``pictures``, a file exists already, or two pictures would get the same name.
    """
    files = picture_files(pictures)
    _require_apart(pictures, out)
    work: dict[Path, list[tuple[Relight, Path]]] = {}
    for name, relight in lights.items():
        plan = plan_jobs(pictures, out / name, format=_SUFFIX, resume=resume, overwrite=overwrite)
        plan.remove_leftovers()
        for job in plan.jobs:
            work.setdefault(job.source, []).append((relight, job.target))

    def make(item: tuple[Path, list[tuple[Relight, Path]]]) -> str | None:
        source, targets = item
        try:
            picture = read_picture(source)
            for relight, target in targets:
                _write(picture, relight, target)
        except (ImageError, OSError) as error:
            return f"{source}: {why_failed(source, error)}"
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(tqdm(pool.map(make, work.items()), total=len(work), desc="changing light", unit="picture"))
    failed = [line for line in results if line]
    return len(files) - len(failed), failed


def folder_name(gamma: float) -> str:
    """The name of the folder of a gamma.

    >>> folder_name(0.5)
    'gamma_0.5'
    """
    return f"gamma_{gamma:g}"


def shifted_truth(truth: Mapping[str, Any], pictures: Iterable[str]) -> dict[str, Any]:
    """COCO annotations with the names of the shifted pictures.

    Args:
        truth: Annotations of the original pictures.
        pictures: Names of the pictures that were shifted; other images are left out.
    """
    kept = images_of(truth, pictures)
    renamed = [{**image, "file_name": shifted_name(image["file_name"])} for image in kept["images"]]
    return {**kept, "images": renamed}


def shifted_name(name: str) -> str:
    """The file name that a picture has in each of the trees.

    >>> shifted_name("night/1.jpg")
    'night/1.png'
    """
    return PurePosixPath(name).with_suffix(f".{_SUFFIX}").as_posix()


def _write(picture: Picture, relight: Relight, target: Path) -> None:
    pixels = relight(convert_depth(picture.pixels, np.uint8))
    alpha = None if picture.alpha is None else convert_depth(picture.alpha, np.uint8)
    write_picture(target, replace(picture, pixels=pixels, alpha=alpha))


def _require_apart(pictures: Path, out: Path) -> None:
    inside, root = real_path(out), real_path(pictures)
    if inside == root or root in inside.parents:
        raise ValueError(
            f"{out} is inside {pictures}, so the next call would read its pictures as inputs: name another --out"
        )
