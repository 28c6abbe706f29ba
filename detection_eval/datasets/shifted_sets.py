"""Sets of pictures that gamma darkens or brightens, as if they had been taken in too little or too much light."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc.enhance_files import plan_jobs
from llie_preproc.errors import ImageError, why_failed
from llie_preproc.files import real_path
from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.pictures import Picture, convert_depth, picture_files, read_picture, write_picture

from .coco import images_of

_SUFFIX = "png"
# Threads suffice, because encoding releases Python's lock.
_THREADS = min(8, os.cpu_count() or 1)


def shift_set(
    pictures: Path, out: Path, gammas: Sequence[float], convention: str, resume: bool = False, overwrite: bool = False
) -> tuple[int, list[str]]:
    """Write a tree of shifted pictures for each gamma.

    Pictures of more than 8 bits are reduced to 8 bits; alpha channel, EXIF data and colour profile are kept.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/day/1.png", Picture(np.full((4, 6, 3), 128, np.uint8)))
    ...     _ = shift_set(Path(root, "day"), Path(root, "shifted"), [0.5, 2.0], "power")
    ...     sorted(path.name for path in Path(root, "shifted").iterdir())
    ['gamma_0.5', 'gamma_2']

    Args:
        pictures: Folder of the pictures; its subfolders are searched too.
        out: Folder of the trees, which gets one subfolder for each gamma (:func:`folder_name`).
        gammas: Gammas, each of which gets a tree.
        convention: Meaning of gamma, as in :func:`~llie_preproc.gamma_shift.shift_gamma`.
        resume: Whether to keep shifted pictures that exist already.
        overwrite: Whether to replace shifted pictures that exist already.

    Returns:
        The number of pictures that were shifted, and a message for each picture that could not be read or written.

    Raises:
        FileNotFoundError: The folder is missing or holds no picture.
        ValueError: ``out`` is inside ``pictures``, a file exists already, or two pictures would get the same name.
    """
    files = picture_files(pictures)
    _require_apart(pictures, out)
    work: dict[Path, list[tuple[float, Path]]] = {}
    for gamma in gammas:
        plan = plan_jobs(pictures, out / folder_name(gamma), format=_SUFFIX, resume=resume, overwrite=overwrite)
        plan.remove_leftovers()
        for job in plan.jobs:
            work.setdefault(job.source, []).append((gamma, job.target))

    def shift(item: tuple[Path, list[tuple[float, Path]]]) -> str | None:
        source, targets = item
        try:
            picture = read_picture(source)
            for gamma, target in targets:
                _write(picture, gamma, convention, target)
        except (ImageError, OSError) as error:
            return f"{source}: {why_failed(source, error)}"
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(tqdm(pool.map(shift, work.items()), total=len(work), desc="shifting gamma", unit="picture"))
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


def _write(picture: Picture, gamma: float, convention: str, target: Path) -> None:
    pixels = shift_gamma(convert_depth(picture.pixels, np.uint8), gamma, convention)
    alpha = None if picture.alpha is None else convert_depth(picture.alpha, np.uint8)
    write_picture(target, replace(picture, pixels=pixels, alpha=alpha))


def _require_apart(pictures: Path, out: Path) -> None:
    inside, root = real_path(out), real_path(pictures)
    if inside == root or root in inside.parents:
        raise ValueError(
            f"{out} is inside {pictures}, so the next call would read its pictures as inputs: name another --out"
        )
