"""A simulated camera in too little or too much light: exposure and sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sensor:
    """Noise of one pixel.

    Attributes:
        full_well: Number of electrons that reads as white. Their number follows a Poisson law, so that fewer electrons
            are noisier. Infinite for no noise.
        read_noise: Standard deviation of the noise that reading adds, in electrons.
    """

    full_well: float = float("inf")
    read_noise: float = 0.0


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Decode sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1).

    Examples:
        >>> srgb_to_linear(np.array([0.0, 0.5, 1.0])).round(3)
        array([0.   , 0.214, 1.   ])
    """
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: np.ndarray) -> np.ndarray:
    """Encode linear light in [0, 1] as sRGB in [0, 1] (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def sense(light: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """Draw the values that a sensor reads: ``(Poisson(full_well * light) + Normal(0, read_noise)) / full_well``.

    Args:
        light: Linear light, in which 1 is white.
        sensor: Noise of the sensor; a sensor of infinite ``full_well`` has none.
        rng: Source of the noise.

    Returns:
        Values that are not clipped and have ``light`` as their expectation.
    """
    if not np.isfinite(sensor.full_well):
        return light
    electrons = rng.poisson(sensor.full_well * light) + rng.normal(0.0, sensor.read_noise, light.shape)
    return electrons / sensor.full_well


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
