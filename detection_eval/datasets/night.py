"""Night pictures, found by their brightness, for sets that do not say which pictures were taken at night.

The luma (ITU-R BT.601, 0 to 255, as JPEG stores it) is averaged over blocks of 8x8 pixels. A picture counts as night if
the mean over the blocks is below ``max_luma`` **and** at least the share ``min_dark`` of the blocks is darker than 50.
The second condition excludes pictures that are dim everywhere but have no dark places (haze, dusk). The defaults were
fitted to a few pictures and are not validated; docs/detection_datasets.md has the measured values.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from llie_preproc.errors import ImageError
from llie_preproc.files import atomic_write
from llie_preproc.pictures import convert_depth, decode_picture, read_bytes

from .labels import Problems

DARK = 50
"""Luma below which a block counts as dark."""

_BLOCK = 8
_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class Light:
    """The brightness of a picture.

    Attributes:
        luma: Mean luma over the blocks, 0 to 255.
        dark: Share of the blocks that are darker than :data:`DARK`.
    """

    luma: float
    dark: float


@dataclass(frozen=True)
class NightRule:
    """The rule by which a picture counts as night.

    >>> rule = NightRule()
    >>> rule(Light(luma=35, dark=0.8)), rule(Light(luma=60, dark=0.1))
    (True, False)

    Attributes:
        max_luma: Mean luma that a night picture must be below.
        min_dark: Least share of dark blocks in a night picture.
    """

    max_luma: float = 80.0
    min_dark: float = 0.2

    def __call__(self, light: Light) -> bool:
        """Whether a picture of this brightness counts as night."""
        return light.luma < self.max_luma and light.dark >= self.min_dark

    def __str__(self) -> str:
        return f"luma below {self.max_luma:g}, at least {self.min_dark:g} of the blocks dark"


def measure(path: str | os.PathLike[str]) -> Light:
    """Measure the brightness of a picture file.

    A JPEG is decoded at an eighth of its size, which reads the stored mean of each block. Other pictures are averaged
    after decoding.

    >>> import tempfile
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/1.png", Picture(np.full((16, 16, 3), 30, np.uint8)))
    ...     measure(f"{root}/1.png")
    Light(luma=30.0, dark=1.0)

    Raises:
        FileNotFoundError: The file is missing.
        ImageError: The file is not a picture, or the picture is damaged or too large.
    """
    data = read_bytes(path)
    if data.startswith(_JPEG):
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        if grey is None:
            raise ImageError(f"{path}: the picture is truncated or damaged")
    else:
        pixels = convert_depth(decode_picture(data, str(path)).pixels, np.uint8)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        small = (-(-grey.shape[1] // _BLOCK), -(-grey.shape[0] // _BLOCK))
        grey = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
    return Light(float(grey.mean()), float((grey < DARK).mean()))


def measure_all(pictures: Mapping[str, Path], problems: Problems) -> dict[str, Light]:
    """Measure named pictures on all cores. A picture that cannot be read is reported as bad and left out."""

    def attempt(path: Path) -> Light | Exception:
        try:
            return measure(path)
        except (OSError, ValueError) as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(pictures, pool.map(attempt, pictures.values()), strict=True))
    problems.all_bad([str(result) for result in results.values() if isinstance(result, Exception)])
    return {name: result for name, result in results.items() if isinstance(result, Light)}


def write_lights(path: str | os.PathLike[str], lights: Mapping[str, Light], chosen: Sequence[str]) -> None:
    """Write a CSV file ``name,luma,dark,night`` of all pictures; night is 1 for the ``chosen`` ones, 0 for others."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "luma", "dark", "night"))
    taken = set(chosen)
    rows.writerows((name, f"{x.luma:.2f}", f"{x.dark:.4f}", int(name in taken)) for name, x in sorted(lights.items()))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
