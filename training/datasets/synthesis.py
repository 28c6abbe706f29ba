"""Dark pictures made of day pictures, for users without pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from llie_preproc.checks import rising
from llie_preproc.pictures import picture_files
from llie_preproc.registry import DATASETS, TRANSFORMS

from .augmentation import require_picture
from .base import Layout, Pictures, PictureSet


@TRANSFORMS.register_module()
class LowLightSynthesis:
    """A dark, noisy picture as a sensor would have taken it of the scene of a day picture.

    With the picture ``x`` in [0, 1] and ``L`` the inverse of sRGB's transfer function (IEC 61966-2-1), which brings it
    to linear light::

        y = exposure * L(x) ** gamma                                   less light, and deeper shadows
        z = (Poisson(electrons * y) + read_noise * N(0, 1)) / electrons    shot and read noise
        output = round(255 * inverse of L(clip(z, 0, 1)))

    so before clipping ``z`` has mean ``y`` and variance ``y / electrons + (read_noise / electrons) ** 2``. Noise is
    independent from pixel to pixel and channel to channel; there is no demosaicking and no compression in it. The
    ranges are ours. Of 48 training pairs of LOL-v1, half the pictures made of the references (20 of each) have a median
    level of at most 18 of 255; half the real dark ones have one of at most 12.

    Args:
        exposure: Range, log-uniform, one number a picture.
        gamma: Range, uniform.
        electrons: Range, log-uniform: how many a white pixel counts before the light is taken away. Less is noisier.
            None: no noise.
        read_noise: Range, uniform, of the read noise's standard deviation, in electrons.

    Raises:
        ValueError: Not two numbers ``0 < low <= high`` (``read_noise``: ``0 <= low <= high``).
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
        """``(3, H, W)`` uint8 sRGB to the same; draws from PyTorch's CPU generator.

        Raises:
            TypeError: Something else.
        """
        require_picture(picture, self)
        exposure, gamma = _log_uniform(self.exposure), _uniform(self.gamma)
        signal = exposure * srgb_to_linear(picture / 255) ** gamma
        if self.electrons is not None:
            signal = sensor_noise(signal, _log_uniform(self.electrons), _uniform(self.read_noise))
        return (255 * linear_to_srgb(signal.clamp(0, 1))).round().to(torch.uint8)


@DATASETS.register_module()
class SynthesisedPairs(PictureSet):
    """Day pictures as references, and as inputs the dark pictures made of them, anew at each draw.

    An item is that of :class:`~training.datasets.PairedFolders`. Transforms come before the synthesis, so noise is
    neither resized nor turned.

    Args:
        folder: Of day pictures, searched with its subfolders.
        synthesis: Config of a registered callable from picture to picture, or one; by default
            :class:`LowLightSynthesis` as it is.
        size: As for :class:`~training.datasets.PairedFolders`, like ``names`` and ``transforms``.
        names: Relative to ``folder``.
        transforms: In turn.
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
    """The transform of pairs that replaces the input by what a callable makes of it.

    Args:
        synthesis: As for :class:`SynthesisedPairs`.
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
    """A picture as its own reference."""
    return {"target": path}


def sensor_noise(signal: Tensor, electrons: float, read_noise: float) -> Tensor:
    """Shot and read noise on linear light, any shape: mean ``signal``, variance ``signal / electrons + (read_noise /
    electrons) ** 2``. Not clipped.

    Args:
        signal: Not negative; 1 is the light that fills a pixel with ``electrons``.
        electrons: Of a full pixel.
        read_noise: Standard deviation in electrons.
    """
    return (torch.poisson(electrons * signal) + read_noise * torch.randn(signal.shape)) / electrons


def srgb_to_linear(picture: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Tensor) -> Tensor:
    """Linear light in [0, 1] to sRGB, the inverse of :func:`srgb_to_linear`."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)


def _range(name: str, value: Sequence[float], zero: bool = False) -> tuple[float, float]:
    rising(name, value, least=0 if zero else None, above=None if zero else 0)
    return float(value[0]), float(value[1])


def _uniform(interval: tuple[float, float]) -> float:
    low, high = interval
    return low + (high - low) * float(torch.rand(()))


def _log_uniform(interval: tuple[float, float]) -> float:
    return math.exp(_uniform((math.log(interval[0]), math.log(interval[1]))))
