"""Pictures that a simulated camera takes again at another exposure, with noise that is the same in every run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .checks import at_least, within
from .errors import ImageError
from .fingerprints import Digest
from .ops.sensor import SENSOR, Sensor, photograph
from .pictures import Picture, read_rgb8, write_picture
from .version import __version__

# Beyond these bounds a picture is black or white, or has more electrons than a Poisson law can draw.
_MOST_STOPS, _MOST_ELECTRONS = 20.0, 1e9


@dataclass(frozen=True)
class Exposure:
    """Exposure of a picture that is photographed again by :func:`llie_preproc.ops.sensor.photograph`.

    The noise of a picture depends on its pixels, on the exposure and on ``noise_seed``. It depends neither on other
    pictures nor on the process that draws it.

    Attributes:
        stops: Exposure in EV, from -20 to 20; -3 is an eighth of the light. 0 stands for the picture as it is, to which
            no noise is added.
        sensor: Noise of the sensor; its full well and its read noise are at most 1e9 electrons.
        noise_seed: Seed of the noise.

    Raises:
        ValueError: A number is out of its range.

    Examples:
        >>> dark = Exposure(-3.0).photograph(np.full((40, 50, 3), 200, np.uint8))
        >>> dark.shape, round(float(dark.mean()))
        ((40, 50, 3), 76)
    """

    stops: float
    sensor: Sensor = SENSOR
    noise_seed: int = 0

    def __post_init__(self) -> None:
        within("exposure", self.stops, -_MOST_STOPS, _MOST_STOPS)
        within("full_well", self.sensor.full_well, above=0, most=_MOST_ELECTRONS)
        within("read_noise", self.sensor.read_noise, 0, _MOST_ELECTRONS)
        at_least("noise_seed", self.noise_seed, 0)

    def photograph(self, picture: np.ndarray) -> np.ndarray:
        """Photograph a picture again.

        Args:
            picture: Well-lit picture ``(H, W, 3)`` RGB uint8.

        Returns:
            Picture ``(H, W, 3)`` RGB uint8; at 0 EV ``picture`` itself.

        Raises:
            ImageError: ``picture`` has another shape or depth.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ImageError(
                f"photographing again needs a colour picture (H, W, 3) of uint8, got {picture.shape} of {picture.dtype}"
            )
        if self.stops == 0:
            return picture
        return photograph(picture, self.stops, self.sensor, np.random.default_rng(self._entropy(picture)))

    def _entropy(self, picture: np.ndarray) -> int:
        digest = hashlib.sha256(f"{picture.shape} {float(self.stops)!r} {self.noise_seed}".encode())
        digest.update(np.ascontiguousarray(picture).data)
        return int.from_bytes(digest.digest(), "little")


def photographed(picture: np.ndarray, exposure: Exposure, cache_dir: str | os.PathLike[str]) -> np.ndarray:
    """Photograph a picture again, or read the result of an earlier call from a folder.

    The folder has a PNG file for each picture, exposure, sensor, seed and version of the code. A file appears whole or
    not at all, so that processes may share the folder. A file that is damaged or has another size is made again.

    Args:
        picture: Well-lit picture ``(H, W, 3)`` RGB uint8.
        exposure: Exposure to take it at.
        cache_dir: Folder of the results, which is created at the first write. At 0 EV nothing is written.

    Returns:
        Picture ``(H, W, 3)`` RGB uint8, equal to that of :meth:`Exposure.photograph`.

    Raises:
        ImageError: ``picture`` has another shape or depth.
        OSError: The file cannot be written.

    Examples:
        >>> import tempfile
        >>> folder, grey = Path(tempfile.mkdtemp()), np.full((4, 5, 3), 200, np.uint8)
        >>> first = photographed(grey, Exposure(-3.0), folder)
        >>> [path.suffix for path in folder.glob("*/*")]
        ['.png']
        >>> (photographed(grey, Exposure(-3.0), folder) == first).all()
        np.True_
    """
    if exposure.stops == 0:
        return exposure.photograph(picture)
    path = _path(picture, exposure, Path(cache_dir))
    found = _read(path)
    if found is None or found.shape != picture.shape:
        found = exposure.photograph(picture)
        write_picture(path, Picture(found))
    return found


def _path(picture: np.ndarray, exposure: Exposure, folder: Path) -> Path:
    sensor = exposure.sensor
    settings = float(exposure.stops), float(sensor.full_well), float(sensor.read_noise), exposure.noise_seed
    digest = hashlib.sha256(f"{_code()} {settings} {picture.shape} {picture.dtype}".encode())
    digest.update(np.ascontiguousarray(picture).data)
    key = digest.hexdigest()
    return folder / key[:2] / f"{key}.png"


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of the code that photographs, so that a change of it makes the pictures anew."""
    digest = Digest()
    digest.add((__version__, Exposure.photograph), "the code that photographs")
    return digest.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """Read an entry; None if there is none, or if it is a link or no picture."""
    try:
        return None if path.is_symlink() else read_rgb8(path)
    except (OSError, ImageError):
        return None
