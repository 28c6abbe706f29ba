"""The exposure sequences among the pictures of SICE part 1, found from the pictures alone, as lists.

``python -m benchmarks.sice_sequences FOLDER [--out mm_configs/_base_]``

Zero-DCE and PSENet train on 2,002 pictures of SICE part 1 that are numbered without regard to scenes. This program
finds the scenes and writes ``sice_part1_sequences_train.json`` and ``sice_part1_sequences_val.json``, lists as
:mod:`detection_eval.shared.exposure_sequences` reads them, and ``sice_part1_train.txt``, the names of all pictures that
show no scene of the second list.

1. *Scenes.* The direction of the grey level's gradient does not depend on the exposure. Pictures with a correlation of
   0.6 or more between their directions, at 64x64, show one scene, and so do pictures that are linked by others.
2. *Reference.* The pictures of a scene are sorted by their mean luma. The middle one is the reference, or of two middle
   ones that whose mean luma is nearer to 0.45. A scene is left out if it has fewer than 3 pictures, or if the
   reference has a mean luma outside [0.25, 0.65], or more than a fifth of its pixels at luma 10 or below, or at 245 or
   above.
3. *Exposures.* The step between neighbours in brightness is the median of the ratio of their linear light, in EV, over
   the pixels with a light above 0.01, and below 0.8 in each channel, in both. A picture's exposure is the sum of the
   steps from the reference. Where a step has fewer than 1 % of the pixels, or where the details of both pictures have a
   correlation below 0.85, because something moved, the rest of that side is left out.
4. *Whole EV.* Of the pictures of a scene with the same exposure in whole EV, the one nearest to it is kept, and none
   within half an EV of the reference. So scenes in fine steps and in coarse ones weigh alike.
5. *Split.* Neighbours in number often show one place. So of each 40 scenes in the order of their numbers, the last five
   are for validation.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.sice_sequences")

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from detection_eval.shared.exposure_sequences import ExposureSequence, whole_step
from llie_preproc.files import write_texts
from llie_preproc.luma import BT601
from llie_preproc.ops.sensor import srgb_to_linear
from llie_preproc.pictures import picture_files, read_rgb8

NAME = "sice_part1"
SAME_SCENE, SAME_DETAILS = 0.6, 0.85
"""Least correlation of gradient directions within a scene, and of details between neighbours in brightness."""
LEAST_SHARED = 0.01
"""Least share of pixels that are neither dark nor bright in both of two neighbours."""
MIDDLE, WELL_EXPOSED = 0.45, (0.25, 0.65)
"""Best mean luma of a reference, and the range of it."""
MOST_CLIPPED = 0.2
"""Largest share of black pixels, and of white ones, of a reference."""
BLOCK, HELD_OUT = 40, 5
"""Number of scenes in a block, and how many at its end are for validation."""

_STRUCTURE, _DETAIL = 64, 128
_FLAT = 4.0
_BLACK, _WHITE = 10, 245
_DARK, _BRIGHT = 0.01, 0.8
_LEAST = 1e-4
# Weights of red, green and blue in the luminance of linear sRGB (ITU-R BT.709).
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_LIGHT = srgb_to_linear(np.arange(256) / 255).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """What is measured of a picture.

    Attributes:
        name: Name of the file.
        directions: Directions of the gradient as one vector of the length 1.
        luma: Mean luma in [0, 1].
        clipped: Larger one of the shares of black and of white pixels.
        light: Logarithm to base 2 of the linear light, ``(128, 128)``.
        is_usable: Whether a pixel is neither dark nor bright, ``(128, 128)``.
    """

    name: str
    directions: np.ndarray
    luma: float
    clipped: float
    light: np.ndarray
    is_usable: np.ndarray

    def is_well_exposed(self) -> bool:
        """Whether the picture can be the reference of its scene."""
        least, most = WELL_EXPOSED
        return least <= self.luma <= most and self.clipped <= MOST_CLIPPED


def measured(name: str, picture: np.ndarray) -> Shot:
    """Measure a picture ``(H, W, 3)`` uint8 RGB."""
    grey = picture.astype(np.float32) @ np.array(BT601, np.float32)
    small = cv2.resize(grey, (_STRUCTURE, _STRUCTURE), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    gradient = np.stack([cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)])
    # Without the constant, the noise of flat parts would have directions too.
    directions = (gradient / (np.hypot(*gradient) + _FLAT)).ravel()
    linear = cv2.resize(_LIGHT[picture], (_DETAIL, _DETAIL), interpolation=cv2.INTER_AREA)
    light = linear @ _LUMINANCE
    return Shot(
        name,
        directions / max(float(np.linalg.norm(directions)), _LEAST),
        float(grey.mean()) / 255,
        float(max((grey <= _BLACK).mean(), (grey >= _WHITE).mean())),
        np.log2(light.clip(_LEAST)),
        (light > _DARK) & (linear.max(axis=2) < _BRIGHT),
    )


def scenes_of(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Group pictures into scenes, which come in the order of their median picture; each is sorted by brightness."""
    directions = np.stack([shot.directions for shot in shots])
    _, labels = connected_components(directions @ directions.T >= SAME_SCENE, directed=False)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    members.sort(key=lambda each: (float(np.median(each)), int(each[0])))
    return [sorted((shots[i] for i in each), key=lambda shot: shot.luma) for each in members]


def step_between(darker: Shot, brighter: Shot) -> float | None:
    """Measure the step between two pictures in EV; None if they share too few pixels, or if something moved."""
    shared = darker.is_usable & brighter.is_usable
    if shared.mean() < LEAST_SHARED:
        return None
    details = [_details(shot.light, shared)[shared] for shot in (darker, brighter)]
    if not np.corrcoef(details)[0, 1] >= SAME_DETAILS:
        return None
    return float(np.median((brighter.light - darker.light)[shared]))


def _details(light: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Subtract from each pixel the mean light of the shared pixels around it."""
    weight = shared.astype(np.float32)
    around = cv2.GaussianBlur(weight, (0, 0), 4.0)
    return light - cv2.GaussianBlur(light * weight, (0, 0), 4.0) / around.clip(_LEAST)


def sequence_of(scene: Sequence[Shot]) -> ExposureSequence | None:
    """Make the sequence of a scene that is sorted by brightness; None if it has no reference or nothing beside it."""
    middle = scene[(len(scene) - 1) // 2 : len(scene) // 2 + 1]
    reference = min(middle, key=lambda shot: abs(shot.luma - MIDDLE))
    if len(scene) < 3 or not reference.is_well_exposed():
        return None
    place = scene.index(reference)
    both = [*_exposures(scene[place::-1], -1), *_exposures(scene[place:], 1)]
    nearest: dict[int, tuple[str, float]] = {}
    for name, stops in sorted(both, key=lambda each: abs(each[1] - whole_step(each[1]))):
        nearest.setdefault(whole_step(stops), (name, stops))
    nearest.pop(0, None)
    kept = dict(nearest[step] for step in sorted(nearest))
    return ExposureSequence(reference.name, kept) if kept else None


def _exposures(side: Sequence[Shot], sign: int) -> Iterator[tuple[str, float]]:
    """List the pictures of one side of the reference, which comes first in it, with their exposures."""
    stops = 0.0
    for near, far in pairwise(side):
        step = step_between(*((near, far) if sign > 0 else (far, near)))
        if step is None:
            return
        stops += sign * step
        yield far.name, round(stops, 2)


def is_held_out(scene: int) -> bool:
    """Whether the scene of this number, counted from 0, is for validation.

    Examples:
        >>> [scene for scene in range(80) if is_held_out(scene)]
        [35, 36, 37, 38, 39, 75, 76, 77, 78, 79]
    """
    return scene % BLOCK >= BLOCK - HELD_OUT


def lists_of(shots: Sequence[Shot]) -> dict[str, str]:
    """Make the text of each list, by the name of its file.

    Args:
        shots: Measured pictures, in the order of their numbers.
    """
    scenes = scenes_of(shots)
    lines: dict[str, list[str]] = {"train": [], "val": []}
    others: set[str] = set()
    for number, scene in enumerate(scenes):
        part = "val" if is_held_out(number) else "train"
        if part == "train":
            others.update(shot.name for shot in scene)
        sequence = sequence_of(scene)
        if sequence is not None:
            lines[part].append(json.dumps(dict(reference=sequence.reference, exposures=dict(sequence.exposures))))
    texts = {
        f"{NAME}_sequences_{part}.json": '{"scenes": [\n' + ",\n".join(each) + "\n]}\n" for part, each in lines.items()
    }
    texts[f"{NAME}_train.txt"] = "".join(f"{shot.name}\n" for shot in shots if shot.name in others)
    used = ", ".join(f"{len(each)} for {part}" for part, each in lines.items())
    print(f"{len(shots)} pictures, {len(scenes)} scenes; with a reference: {used}; {len(others)} pictures to train on")
    return texts


def _number(path: Path) -> tuple[int, str]:
    """Key to sort by the number in a name, as 2.jpg comes before 10.jpg."""
    digits = re.search(r"\d+", path.stem)
    return (int(digits.group()) if digits else 0, path.name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the lists that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sice_sequences", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of the pictures, which have a number as their name")
    parser.add_argument(
        "--out", type=Path, default=Path("mm_configs/_base_"), metavar="DIR", help="folder of the lists"
    )
    args = parser.parse_args(arguments)
    paths = sorted(picture_files(args.folder), key=_number)
    root = Path(args.folder).expanduser()
    shots = [measured(path.relative_to(root).as_posix(), read_rgb8(path)) for path in tqdm(paths, disable=None)]
    write_texts({args.out / name: text for name, text in lists_of(shots).items()})
