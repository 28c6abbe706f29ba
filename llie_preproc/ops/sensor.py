"""A camera in too little or too much light: sRGB and linear light, exposure, and the noise of a sensor.

The functions take NumPy arrays or PyTorch tensors, and return the same kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

Light = TypeVar("Light", np.ndarray, torch.Tensor)

# sRGB (IEC 61966-2-1) is a straight line up to one point, given here as an encoded value and as linear light.
_ENCODED, _LINEAR = 0.04045, 0.0031308


@dataclass(frozen=True)
class Sensor:
    """Noise of one pixel.

    Attributes:
        full_well: Number of electrons that is read as white. The electrons of a pixel follow a Poisson law, so that
            dark pixels are noisier in relation to their light. Infinity stands for no noise at all.
        read_noise: Standard deviation of the noise that reading adds, in electrons.

    Examples:
        >>> Sensor(full_well=3000.0, read_noise=3.0).noisy, Sensor().noisy
        (True, False)
    """

    full_well: float = float("inf")
    read_noise: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether the sensor adds noise."""
        return math.isfinite(self.full_well)


SENSOR = Sensor(full_well=3000.0, read_noise=3.0)
"""The sensor of pictures that are photographed again, unless another one is named."""


def srgb_to_linear(encoded: Light) -> Light:
    """Decode sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1).

    Examples:
        >>> srgb_to_linear(np.array([0.0, 0.5, 1.0])).round(3)
        array([0.   , 0.214, 1.   ])
    """
    return _library(encoded).where(encoded <= _ENCODED, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Light) -> Light:
    """Encode linear light in [0, 1] as sRGB in [0, 1], the inverse of :func:`srgb_to_linear`.

    Examples:
        >>> linear_to_srgb(torch.tensor([0.0, 0.214, 1.0])).mul(10).round().tolist()
        [0.0, 5.0, 10.0]
    """
    # Values of the linear part are replaced before the power, because the power of a negative value is not defined.
    bounded = light.clip(_LINEAR, None)
    return _library(light).where(light <= _LINEAR, 12.92 * light, 1.055 * bounded ** (1 / 2.4) - 0.055)


def sense(light: Light, sensor: Sensor, rng: np.random.Generator | torch.Generator | None = None) -> Light:
    """Draw the values that a sensor reads: ``(Poisson(full_well * light) + Normal(0, read_noise)) / full_well``.

    Args:
        light: Linear light of any shape, not negative, in which 1 is white.
        sensor: Noise of the sensor; a sensor of infinite ``full_well`` has none.
        rng: Source of the noise: NumPy's generator for an array; PyTorch's for a tensor, or None for the default one.

    Returns:
        Values that are not clipped. They have the expectation ``light`` and the variance
        ``light / full_well + (read_noise / full_well)^2``.

    Raises:
        TypeError: ``light`` and ``rng`` are not of one library.

    Examples:
        >>> read = sense(np.full(10_000, 0.5), Sensor(full_well=100.0), np.random.default_rng(0))
        >>> round(float(read.mean()), 2), round(float(read.std()), 2)
        (0.5, 0.07)
    """
    if not sensor.noisy:
        return light
    expected = sensor.full_well * light
    if isinstance(light, torch.Tensor) and not isinstance(rng, np.random.Generator):
        electrons, noise = torch.poisson(expected, generator=rng), torch.randn(light.shape, generator=rng)
    elif isinstance(light, np.ndarray) and isinstance(rng, np.random.Generator):
        electrons, noise = rng.poisson(expected), rng.normal(size=light.shape)
    else:
        raise TypeError(f"light and rng must be of one library, got {type(light).__name__} and {type(rng).__name__}")
    return (electrons + sensor.read_noise * noise) / sensor.full_well


def photograph(
    scene: np.ndarray,
    stops: float,
    sensor: Sensor,
    rng: np.random.Generator,
    illumination: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Photograph a well-lit picture again, in other light.

    ``encode(clip(sense(decode(scene) * illumination * 2^stops)))``, rounded to 8 bits.

    Args:
        scene: Well-lit picture ``(H, W, 3)`` RGB uint8, sRGB.
        stops: Exposure in EV; -3 is an eighth of the light.
        sensor: Noise of the sensor.
        rng: Source of the noise.
        illumination: Factor of linear light that broadcasts to ``(H, W, 3)``.

    Returns:
        Picture ``(H, W, 3)`` RGB uint8, sRGB.

    Examples:
        >>> grey = np.full((1, 1, 3), 200, np.uint8)
        >>> photograph(grey, -3.0, Sensor(), np.random.default_rng(0)).tolist()
        [[[76, 76, 76]]]
    """
    light = srgb_to_linear(scene.astype(np.float64) / 255) * illumination * 2.0**stops
    encoded = linear_to_srgb(sense(light, sensor, rng).clip(0, 1))
    return (encoded * 255).round().astype(np.uint8)


def _library(values: Any) -> Any:
    """The library whose functions take the values."""
    return torch if isinstance(values, torch.Tensor) else np
