"""Dark pictures that are made from day pictures, for users without pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from llie_preproc.checks import rising
from llie_preproc.ops.sensor import Sensor, linear_to_srgb, sense, srgb_to_linear
from llie_preproc.pictures import picture_files
from llie_preproc.registry import DATASETS, TRANSFORMS

from .augmentation import require_picture
from .base import Layout, Pictures, PictureSet


@TRANSFORMS.register_module()
class LowLightSynthesis:
    """Turns a day picture into a dark, noisy picture, as a sensor would take it of the same scene with less light.

    Let ``x`` be the picture in [0, 1] and ``L`` the inverse of sRGB's transfer function (IEC 61966-2-1), which gives
    linear light. Then::

        y = exposure * L(x) ** gamma                                       less light, and deeper shadows
        z = (Poisson(electrons * y) + read_noise * N(0, 1)) / electrons    shot and read noise
        output = round(255 * inverse of L(clip(z, 0, 1)))

    Before clipping, ``z`` has the mean ``y`` and the variance ``y / electrons + (read_noise / electrons) ** 2``. The
    noise is independent between pixels and between channels; demosaicking and compression are not modelled. Each
    picture draws one number from each range.

    The ranges are this project's own choice. They were compared with 48 training pairs of LOL-v1, each reference turned
    dark 20 times: the median over pictures of the median level is 18 of 255, and 12 for the real dark pictures.

    >>> day = torch.full((3, 8, 8), 180, dtype=torch.uint8)
    >>> night = LowLightSynthesis(exposure=(0.05, 0.05))(day)
    >>> night.dtype, bool(night.float().mean() < 60)
    (torch.uint8, True)

    Args:
        exposure: Range of the factor of light, drawn log-uniformly.
        gamma: Range of the exponent, drawn uniformly.
        electrons: Range of the number of electrons that a white pixel of the day picture stands for, drawn
            log-uniformly. Fewer electrons give more noise. None adds no noise.
        read_noise: Range of the standard deviation of the read noise in electrons, drawn uniformly.

    Raises:
        ValueError: A range is not two numbers ``0 < low <= high`` (for ``read_noise``, ``0 <= low <= high``).
    """

    def __init__(
        self,
        exposure: Sequence[float] = (0.01, 0.2),
        gamma: Sequence[float] = (1.0, 1.4),
        electrons: Sequence[float] | None = (2000.0, 20000.0),
        read_noise: Sequence[float] = (1.0, 5.0),
    ) -> None:
        self.exposure, self.gamma = _range("exposure", exposure), _range("gamma", gamma)
        self.electrons = None if electrons is None else _range("electrons", electrons)
        self.read_noise = _range("read_noise", read_noise, zero=True)

    def __call__(self, picture: Tensor) -> Tensor:
        """Darken a picture ``(3, H, W)`` uint8 sRGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: The argument is no such picture.
        """
        require_picture(picture, self)
        exposure, gamma = _log_uniform(self.exposure), _uniform(self.gamma)
        signal = exposure * srgb_to_linear(picture / 255) ** gamma
        if self.electrons is not None:
            signal = sense(signal, Sensor(_log_uniform(self.electrons), _uniform(self.read_noise)))
        return (255 * linear_to_srgb(signal.clamp(0, 1))).round().to(torch.uint8)


@DATASETS.register_module()
class SynthesisedPairs(PictureSet):
    """Day pictures as references, with dark pictures that are made from them, anew at each draw, as inputs.

    Items are those of :class:`~training.datasets.PairedFolders`. Transforms come before the synthesis, so that noise is
    neither resized nor turned.

    >>> import tempfile
    >>> import numpy as np
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/day.png", Picture(np.full((8, 8, 3), 180, np.uint8)))
    ...     item = SynthesisedPairs(root)[0]
    >>> bool(item["inputs"].float().mean() < item["data_samples"].target.float().mean())
    True

    Args:
        folder: Folder of day pictures; its subfolders are searched too.
        synthesis: Callable from picture to picture, or the config of a registered one; by default a
            :class:`LowLightSynthesis` with its default arguments.
        size: Size of the pictures, as in :class:`~training.datasets.PairedFolders`.
        names: Names of the pictures to take, relative to ``folder``, as in :class:`~training.datasets.PairedFolders`.
        transforms: Transforms, as in :class:`~training.datasets.PairedFolders`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        synthesis: dict | Callable[[Tensor], Tensor] | None = None,
        size: int | Sequence[int] | None = None,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
    ) -> None:
        layout = Layout(Path(folder).expanduser(), picture_files(folder), itself)
        super().__init__(layout, size, names, [*transforms, Degraded(synthesis)])


class Degraded:
    """A transform of pairs that replaces the input by what a callable makes of it.

    Args:
        synthesis: Callable from picture to picture, or the config of a registered one, as in :class:`SynthesisedPairs`.
    """

    def __init__(self, synthesis: dict | Callable[[Tensor], Tensor] | None = None) -> None:
        if synthesis is None:
            synthesis = LowLightSynthesis()
        self.synthesis: Callable[[Tensor], Tensor] = (
            TRANSFORMS.build(synthesis) if isinstance(synthesis, dict) else synthesis
        )

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def __call__(self, pictures: Pictures) -> Pictures:
        return {**pictures, "image": self.synthesis(pictures["image"])}


def itself(path: Path) -> dict[str, Path]:
    """The references of a picture that is its own reference."""
    return {"target": path}


def _range(name: str, value: Sequence[float], zero: bool = False) -> tuple[float, float]:
    rising(name, value, least=0 if zero else None, above=None if zero else 0)
    return float(value[0]), float(value[1])


def _uniform(interval: tuple[float, float]) -> float:
    low, high = interval
    return low + (high - low) * float(torch.rand(()))


def _log_uniform(interval: tuple[float, float]) -> float:
    return math.exp(_uniform((math.log(interval[0]), math.log(interval[1]))))
