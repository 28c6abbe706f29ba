"""Make a set of pictures in too little and too much light.

Darken or brighten every picture below PICTURES by each gamma: the levels are raised to a power and rounded to 8 bits.
Each gamma gets a tree of PNG files, such as DIR/gamma_0.1/. DIR/settings.json records the gamma and the convention of
each tree, and --resume refuses others. Pictures that cannot be read are listed at the end, and the
exit status is then 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llie_preproc.coco_json import require_pictures
from llie_preproc.commands.arguments import add_out, add_resume
from llie_preproc.commands.program import FAILED, say_failed
from llie_preproc.gamma_shift import shift_gamma

from ..datasets.coco import write_coco
from ..datasets.shifted_sets import folder_name, relight_set, shifted_name, shifted_truth
from .gammas import add_gammas, check_gammas


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("pictures", metavar="PICTURES", type=Path, help="folder of the pictures, with its subfolders")
    add_out(parser, "folder to write into, not inside PICTURES", required=True)
    add_gammas(parser)
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="COCO.json",
        help="annotations of the pictures, with names relative to PICTURES; each gamma gets a copy with the new names, "
        "such as DIR/gamma_0.1.json",
    )
    existing = parser.add_mutually_exclusive_group()
    add_resume(existing)
    existing.add_argument("--overwrite", action="store_true", help="replace pictures that exist")


def run(args: argparse.Namespace) -> int:
    """Write the sets that the command line asks for; returns the exit status."""
    gammas = check_gammas(args.gammas, args.convention)
    root = args.pictures.expanduser()
    truth = None if args.annotations is None else _truth(args.annotations, root)
    lights = {folder_name(gamma): partial(shift_gamma, gamma=gamma, convention=args.convention) for gamma in gammas}
    settings = {folder_name(gamma): {"gamma": gamma, "convention": args.convention} for gamma in gammas}
    done, failed = relight_set(root, args.out.expanduser(), lights, args.resume, args.overwrite, settings)
    print(f"{args.out}: {done} pictures at {len(gammas)} gammas, {args.convention} convention")
    if truth is not None:
        _write_truths(truth, root, args.out.expanduser(), gammas)
    if failed:
        say_failed(f"{len(failed)} of {done + len(failed)} failed", failed)
    return FAILED if failed else 0


def _truth(path: Path, root: Path) -> dict[str, Any]:
    # This import needs an extra, which a call without annotations does not need.
    from ..metrics.detections import read_truth

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
        there = [name for name in names if (folder / shifted_name(name)).is_file()]
        write_coco(folder.with_name(f"{folder.name}.json"), shifted_truth(truth, there))
