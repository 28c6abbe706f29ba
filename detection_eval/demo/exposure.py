"""A camera in too little or too much light: exposure and sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sensor:
    """The noise of one pixel.

    Attributes:
        full_well: Electrons that read as white; photons arrive by a Poisson law, so fewer are noisier. Infinite: no
            shot noise.
        read_noise: Standard deviation that reading adds, in electrons.
    """

    full_well: float = float("inf")
    read_noise: float = 0.0


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Decode sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: np.ndarray) -> np.ndarray:
    """Encode linear light in [0, 1] as sRGB in [0, 1] (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def sense(light: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """What the sensor reads of linear ``light`` (1 is white): unclipped, with ``light`` as its expectation.

    ``(Poisson(full_well * light) + Normal(0, read_noise)) / full_well``.
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
        scene: ``(H, W, 3)`` RGB uint8, sRGB.
        stops: Exposure in EV: -3 is an eighth of the light.
        sensor: Its noise.
        rng: Source of the noise.
        illumination: Factor on linear light that broadcasts to ``(H, W, 3)``.

    Returns:
        ``(H, W, 3)`` RGB uint8, sRGB.
    """
    light = srgb_to_linear(scene.astype(np.float64) / 255) * illumination * 2.0**stops
    encoded = linear_to_srgb(sense(light, sensor, rng).clip(0, 1))
    return (encoded * 255).round().astype(np.uint8)
