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

from llie_preproc.coco_json import read_json
from llie_preproc.enhance_files import plan_jobs
from llie_preproc.errors import ImageError, why_failed
from llie_preproc.files import real_path, write_json
from llie_preproc.pictures import Picture, convert_depth, picture_files, read_picture, write_picture

from ..shared.resume import holds_files, read_kept, require_same
from .coco import images_of

Relight = Callable[[np.ndarray], np.ndarray]
"""Function of a picture ``(H, W, 3)`` RGB uint8 that returns it in other light, of the same shape and depth."""

_SUFFIX = "png"
_SETTINGS = "settings.json"
# Threads suffice, because encoding releases Python's lock.
_THREADS = min(8, os.cpu_count() or 1)


def relight_set(
    pictures: Path,
    out: Path,
    lights: Mapping[str, Relight],
    resume: bool = False,
    overwrite: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[int, list[str]]:
    """Write a tree of the same pictures in other light for each light.

    With ``settings``, ``settings.json`` in ``out`` records how each tree was made. Pictures are added to a tree only if
    its settings are the same.

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
        settings: Settings of each light, plain values, by the name of the tree's folder; None records nothing.

    Returns:
        The number of pictures that were made or existed already, and a message for each picture that could not be read
        or written.

    Raises:
        FileNotFoundError: The folder is missing or holds no picture.
        ValueError: ``out`` is inside ``pictures``, a file exists already, two pictures would get the same name, or a
            tree was made with other settings.
    """
    files = picture_files(pictures)
    _require_apart(pictures, out)
    made_with = _made_with(out)
    if not overwrite:
        _require_settings(out, made_with, settings or {}, resume)
    work: dict[Path, list[tuple[Relight, Path]]] = {}
    for name, relight in lights.items():
        plan = plan_jobs(pictures, out / name, format=_SUFFIX, resume=resume, overwrite=overwrite)
        plan.remove_leftovers()
        for job in plan.jobs:
            work.setdefault(job.source, []).append((relight, job.target))

    if settings:
        # They are recorded before the first picture, so that an interrupted call can be continued.
        write_json(out / _SETTINGS, {**made_with, **settings})

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


def _made_with(out: Path) -> dict[str, Any]:
    """The settings of the trees that earlier calls made in ``out``."""
    made_with = read_kept(out / _SETTINGS, read_json) or {}
    if not isinstance(made_with, dict):
        raise ValueError(f"{out / _SETTINGS} is damaged: expected an object, got {type(made_with).__name__}")
    return made_with


def _require_settings(
    out: Path, made_with: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], resume: bool
) -> None:
    """Refuse trees that were made with other settings and, in a call that resumes, with settings that are not known."""
    for name, own in settings.items():
        if name in made_with:
            require_same(out / name, made_with[name], own)
        elif resume and holds_files(out / name):
            raise ValueError(
                f"{out / name} holds pictures, but {_SETTINGS} does not say how they were made: use --overwrite, or "
                "choose another --out"
            )


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
