"""``python -m detection_eval gamma-shift``: a set of pictures in too little and too much light."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc.annotations import require_pictures
from llie_preproc.batch import plan_jobs
from llie_preproc.errors import ImageError
from llie_preproc.files import real_path
from llie_preproc.gamma_shift import CONVENTIONS, GAMMAS, exponent, shift_gamma
from llie_preproc.pictures import Picture, convert_depth, picture_files, read_picture, write_picture

from .datasets.coco import images_of, write_coco

_FAILED = 1
_SUFFIX = "png"
# Encoding releases Python's lock.
_THREADS = min(8, os.cpu_count() or 1)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add ``gamma-shift`` to the commands."""
    parser = commands.add_parser(
        "gamma-shift",
        help="a set of pictures in too little and too much light",
        description="Shift the levels of every picture below PICTURES by a power, rounded to 8 bits, and write one "
        "tree for each gamma: OUT/gamma_0.1/..., as PNG, which loses nothing more. A picture that cannot be read is "
        "named at the end and makes the exit status 1.",
    )
    parser.add_argument("pictures", metavar="PICTURES", type=Path, help="folder of the pictures, with its subfolders")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write into, not inside PICTURES")
    add_gammas(parser)
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="COCO.json",
        help="also write OUT/gamma_0.1.json, ... with the new file names; those given are relative to PICTURES",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="keep pictures that exist, and do the others")
    existing.add_argument("--overwrite", action="store_true", help="write pictures that exist anew")
    parser.set_defaults(run=_run)


def add_gammas(parser: argparse.ArgumentParser) -> None:
    """Add ``--gammas`` and ``--convention``."""
    parser.add_argument(
        "--gammas", nargs="+", type=float, default=list(GAMMAS), metavar="G", help="default: %(default)s"
    )
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        default="power",
        help="power: I^g, above 1 darkens (default); inverse: I^(1/g), above 1 brightens",
    )


def check_gammas(gammas: Sequence[float], convention: str) -> list[float]:
    """The values, rising.

    Raises:
        ValueError: One is not positive and finite, or two are called alike.
    """
    for gamma in gammas:
        try:
            exponent(gamma, convention)
        except ValueError as error:
            raise ValueError(f"--gammas: {error}") from None
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        raise ValueError(f"--gammas names one twice: {' '.join(f'{gamma:g}' for gamma in gammas)}")
    return sorted(gammas)


def shift_set(
    pictures: Path, out: Path, gammas: Sequence[float], convention: str, resume: bool = False, overwrite: bool = False
) -> tuple[int, list[str]]:
    """Write a tree of shifted pictures for each gamma.

    Pictures of more than 8 bits become such of 8; alpha channel, EXIF and colour profile are kept.

    Returns:
        How many pictures are whole, and a line for each that is not.

    Raises:
        FileNotFoundError: No such folder, or no picture in it.
        ValueError: ``out`` is inside ``pictures``, a file exists, two pictures would become one.
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
            return f"{source}: {str(error).removeprefix(f'{source}: ')}"
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(tqdm(pool.map(shift, work.items()), total=len(work), desc="shifting gamma", unit="picture"))
    failed = [line for line in results if line]
    return len(files) - len(failed), failed


def folder_name(gamma: float) -> str:
    """Of the tree of a gamma."""
    return f"gamma_{gamma:g}"


def shifted_truth(truth: Mapping[str, Any], pictures: Iterable[str]) -> dict[str, Any]:
    """COCO annotations with the names that the shifted pictures have.

    Args:
        truth: Of the pictures as they were.
        pictures: Names of those that were shifted; images of others are left out.
    """
    kept = images_of(truth, pictures)
    renamed = [{**image, "file_name": _renamed(image["file_name"])} for image in kept["images"]]
    return {**kept, "images": renamed}


def _run(args: argparse.Namespace) -> int:
    gammas = check_gammas(args.gammas, args.convention)
    root = args.pictures.expanduser()
    truth = None if args.annotations is None else _truth(args.annotations, root)
    done, failed = shift_set(root, args.out.expanduser(), gammas, args.convention, args.resume, args.overwrite)
    print(f"{args.out}: {done} pictures at {len(gammas)} gammas, {args.convention} convention")
    if truth is not None:
        _write_truths(truth, root, args.out.expanduser(), gammas)
    if failed:
        print(f"error: {len(failed)} of {done + len(failed)} failed:", *failed, sep="\n  ", file=sys.stderr)
    return _FAILED if failed else 0


def _truth(path: Path, root: Path) -> dict[str, Any]:
    # Wants an extra, which the pictures alone do not.
    from .metrics.detections import read_truth

    truth = read_truth(path)
    require_pictures(truth, str(path), sizes=False)
    for number, image in enumerate(truth["images"]):
        if not (root / image["file_name"]).is_file():
            raise ValueError(f"{path}: images[{number}]: there is no picture {image['file_name']!r} below {root}")
    return truth


def _write_truths(truth: Mapping[str, Any], root: Path, out: Path, gammas: Sequence[float]) -> None:
    for gamma in gammas:
        folder = out / folder_name(gamma)
        names = [image["file_name"] for image in truth["images"]]
        there = [name for name in names if (folder / _renamed(name)).is_file()]
        write_coco(folder.with_name(f"{folder.name}.json"), shifted_truth(truth, there))


def _renamed(name: str) -> str:
    return PurePosixPath(name).with_suffix(f".{_SUFFIX}").as_posix()


def _write(picture: Picture, gamma: float, convention: str, target: Path) -> None:
    pixels = shift_gamma(convert_depth(picture.pixels, np.uint8), gamma, convention)
    alpha = None if picture.alpha is None else convert_depth(picture.alpha, np.uint8)
    write_picture(target, replace(picture, pixels=pixels, alpha=alpha))


def _require_apart(pictures: Path, out: Path) -> None:
    inside, root = real_path(out), real_path(pictures)
    if inside == root or root in inside.parents:
        raise ValueError(
            f"{out} is inside {pictures}: another call would take its pictures for inputs; name another OUT"
        )
