"""Every shipped network on the same eight pictures, as sheets to look at: docs/gallery.md.

``python -m benchmarks.gallery --out DIR [--pictures NAME ...] [--enhancer [LABEL=]NAME[@WEIGHTS] ...] [--page FILE]``

The pictures are scikit-image's photographs that everybody may show, shrunk to a longer side of 280 pixels and then
photographed again by the simulated camera of :class:`llie_preproc.exposures.Exposure`. Each picture gets one sheet: the
photograph, the raw picture of the camera, and what each network makes of the raw picture. A result that is enlarged is
shrunk to the size of the others by averaging areas.

The networks are those of ``llie_preproc/weights/index.json``, with each of their weights. ``--enhancer`` takes others
instead, such as a training that is not shipped yet: ``--enhancer psenet new=iaml-unet@runs/iaml/enhancer.safetensors``.
``--page`` writes the part of a page that lists the networks and shows the sheets, below the line that says so. All
networks run on the CPU, and the noise depends on the picture alone, so every run gives the same pictures.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.gallery")

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from detection_eval.demo.photographs import sample
from detection_eval.shared.enhancers import add_enhancers, described, frozen_enhancers, labelled
from detection_eval.shared.score_table import markdown_table
from llie_preproc import FrozenEnhancer, InferenceOptions
from llie_preproc.checkpoints import shipped_weights
from llie_preproc.commands.arguments import OnceEach, add_out, path
from llie_preproc.exposures import Exposure
from llie_preproc.files import read_text, write_text
from llie_preproc.pictures import Picture, write_picture

SIDE = 280
"""Longer side, in pixels, to which photographs are shrunk."""
COLUMNS = 4
"""Number of pictures in a row of a sheet."""
MOST_BYTES = 180_000
"""Largest size of a sheet's file."""
MARK = "<!-- `make gallery` writes everything below this line. -->\n"

# Qualities of JPEG. The first one that makes a file small enough is taken, and the last one if none does.
_QUALITIES = (92, 88, 84, 80, 75, 70, 60, 50)
_GAP, _TITLE = 6, 22
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Shown:
    """A picture of the gallery.

    Attributes:
        photograph: Name of the photograph, as for :func:`detection_eval.demo.photographs.sample`.
        stops: Exposure at which it is photographed again, in EV; 0 stands for the photograph as it is.
        source: What the photograph shows, its author, and its licence.
    """

    photograph: str
    stops: float
    source: str

    @property
    def exposure(self) -> str:
        """The exposure in words."""
        return f"{self.stops:+g} EV" if self.stops else "as it is"


PICTURES = (
    Shown("coffee", 0, "A cup of coffee, by Rachel Michetti, courtesy of Pikolo Espresso Bar. CC0."),
    Shown("astronaut", -2, "The astronaut Eileen Collins, by NASA. Public domain."),
    Shown("rocket", -3, "A Falcon 9 before its start, by SpaceX. Public domain."),
    Shown("camera", -4, "A man with a camera, grey, by Lav Varshney. CC0."),
    Shown(
        "immunohistochemistry",
        -4,
        "Stained tissue, by the Center for Microscopy and Molecular Imaging. No known copyright restrictions.",
    ),
    Shown("coins", -5, "Coins from Pompeii, grey, from the Brooklyn Museum. No known copyright restrictions."),
    Shown("retina", -5, "The retina of an eye, by Mikael Häggström. CC0."),
    Shown("chelsea", -6, "The cat Chelsea, by Stefan van der Walt. CC0."),
)
"""The pictures of the gallery, from the brightest to the darkest exposure."""


def shipped_networks() -> list[str]:
    """List the networks of the index with each of their weights, as ``NAME@WEIGHTS``."""
    return [f"{weights.enhancer}@{weights.name}" for weights in shipped_weights()]


def fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """Shrink a picture ``(H, W, 3)`` to a longer side of at most ``side`` pixels, by averaging areas."""
    factor = min(1.0, side / max(pixels.shape[:2]))
    height, width = (round(factor * n) for n in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def tiles(shown: Shown, enhancers: Mapping[str, FrozenEnhancer], side: int = SIDE) -> dict[str, np.ndarray]:
    """Make the pictures of a sheet.

    Args:
        shown: Picture of the gallery.
        enhancers: Networks by label.
        side: Longer side to which the photograph is shrunk, in pixels.

    Returns:
        Pictures ``(H, W, 3)`` RGB uint8 of one size, by title.
    """
    photograph = fitted(sample(shown.photograph), side)
    raw = Exposure(shown.stops).photograph(photograph)
    found = {"photograph": photograph, f"raw, {shown.exposure}": raw}
    for label, enhancer in enhancers.items():
        title = label if enhancer.scale == 1 else f"{label}, x{enhancer.scale}, shrunk"
        found[title] = fitted(enhancer(raw), max(raw.shape[:2]))
    return found


def sheet(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Join pictures of one size in rows, each below its title; ``(H, W, 3)`` RGB uint8 on white."""
    titled = [_titled(title, pixels) for title, pixels in pictures.items()]
    titled += [np.full_like(titled[0], 255)] * (-len(titled) % COLUMNS)
    return np.vstack([np.hstack(titled[start : start + COLUMNS]) for start in range(0, len(titled), COLUMNS)])


def _titled(title: str, pixels: np.ndarray) -> np.ndarray:
    framed = cv2.copyMakeBorder(pixels, _TITLE, _GAP, _GAP, _GAP, cv2.BORDER_CONSTANT, value=_WHITE)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, _), _ = cv2.getTextSize(title, font, size, 1)
    # A long title is written smaller, so that it stays above its own picture.
    size *= min(1.0, pixels.shape[1] / width)
    return cv2.putText(framed, title, (_GAP, _TITLE - _GAP), font, size, _BLACK, 1, cv2.LINE_AA)


def write_sheet(file: Path, pixels: np.ndarray) -> None:
    """Write a sheet as a JPEG file of at most :data:`MOST_BYTES`, and print its size."""
    for quality in _QUALITIES:
        write_picture(file, Picture(pixels), quality)
        if file.stat().st_size <= MOST_BYTES:
            break
    print(f"{file}: {file.stat().st_size:,} bytes at quality {quality}")


def page_with_sheets(file: Path, out: Path) -> str:
    """Write anew what follows :data:`MARK` in the text of a page.

    Args:
        file: Page, which is only read.
        out: Folder of the sheets.

    Returns:
        Text of the page with the networks of the index and a link to the sheet of each picture.

    Raises:
        ValueError: The page does not have the mark.
    """
    own, mark, _ = read_text(file).partition(MARK)
    if not mark:
        raise ValueError(f"{file}: the line {MARK.strip()!r} is missing, below which the sheets are shown")
    images = Path(os.path.relpath(out, file.parent)).as_posix()
    rows = [["network", "SHA-256 begins with", "trained on", "licence of the weights"]]
    rows += [[f"`{w.enhancer}@{w.name}`", f"`{w.sha256[:12]}`", w.data, w.licence] for w in shipped_weights()]
    sections = [f"\n## Networks\n\n{markdown_table(rows)}"]
    for shown in PICTURES:
        title = f"{shown.photograph.capitalize()}, {shown.exposure}"
        described_as = f"{title}: the photograph, the raw picture, {', '.join(shipped_networks())}"
        link = f"![{described_as}]({images}/{shown.photograph}.jpg)"
        sections.append(f"\n## {title}\n\n{shown.source}\n\n{link}\n")
    return own + mark + "".join(sections)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheets that the command line asks for."""
    names = [shown.photograph for shown in PICTURES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=(__doc__ or "").split("\n")[0])
    add_out(parser, "folder of the sheets, NAME.jpg for each picture; sheets that exist are replaced", required=True)
    parser.add_argument(
        "--pictures",
        nargs="+",
        action=OnceEach,
        choices=names,
        metavar="NAME",
        help=f"of {' '.join(names)} (default: all)",
    )
    add_enhancers(parser, default=None, shown="each of the shipped weights")
    parser.add_argument(
        "--page",
        type=path,
        metavar="FILE",
        help="page on which the sheets of all pictures and shipped weights are shown",
    )
    args = parser.parse_args(arguments)
    if args.page and (args.pictures or args.enhancer):
        raise ValueError("--page shows all pictures and the shipped weights: leave --pictures and --enhancer out")
    page = page_with_sheets(args.page, args.out) if args.page else ""
    named = labelled(args.enhancer) if args.enhancer else {name: name for name in shipped_networks()}
    options = InferenceOptions()
    enhancers = frozen_enhancers(described(named, options), options, "cpu")
    for shown in tqdm(PICTURES, desc="pictures", disable=None):
        if shown.photograph in (args.pictures or names):
            write_sheet(args.out / f"{shown.photograph}.jpg", sheet(tiles(shown, enhancers)))
    if args.page:
        write_text(args.page, page)
