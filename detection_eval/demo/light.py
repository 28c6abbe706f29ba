"""First part of the demo: photographs in too little and too much light, raw and enhanced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tqdm import tqdm

from llie_preproc import FrozenEnhancer
from llie_preproc.ops.sensor import SENSOR, photograph

from ..metrics.image_quality import image_quality

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "motorcycle")
UNDER, OVER = "under-exposed, -3 EV", "over-exposed, +1.5 EV"
_STOPS = {UNDER: -3.0, OVER: 1.5}


@dataclass(frozen=True)
class Relit:
    """A photograph in another exposure.

    Attributes:
        captured: Photograph in the other exposure, ``(H, W, 3)`` RGB uint8.
        enhanced: Result of the enhancer for it.
        quality: PSNR (dB) and SSIM against the original photograph, by ``'raw'`` and ``'enhanced'``.
    """

    captured: np.ndarray
    enhanced: np.ndarray
    quality: dict[str, dict[str, float]]


def relight(photographs: Mapping[str, np.ndarray], enhancer: FrozenEnhancer, seed: int) -> dict[str, dict[str, Relit]]:
    """Photograph pictures again with the simulated :data:`SENSOR`, in both exposures, and enhance the results.

    Args:
        photographs: Pictures ``(H, W, 3)`` RGB uint8, by name.
        enhancer: Enhancer of scale 1.
        seed: Seed of the sensor's noise.

    Returns:
        Results by the photograph's name and by exposure.
    """
    return {
        name: {
            exposure: _relight(image, stops, enhancer, np.random.default_rng([seed, number]))
            for number, (exposure, stops) in enumerate(_STOPS.items())
        }
        for name, image in tqdm(photographs.items(), desc="exposures", unit="photograph")
    }


def before_after(relit: Mapping[str, Relit], height: int = 256) -> np.ndarray:
    """Join both exposures and their enhanced results side by side, ``(height, W, 3)`` RGB uint8."""
    parts = [image for exposure in (UNDER, OVER) for image in (relit[exposure].captured, relit[exposure].enhanced)]
    width = round(parts[0].shape[1] * height / parts[0].shape[0])
    return np.hstack([cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) for part in parts])


def _relight(image: np.ndarray, stops: float, enhancer: FrozenEnhancer, rng: np.random.Generator) -> Relit:
    captured = photograph(image, stops, SENSOR, rng)
    enhanced = enhancer(captured)
    original = _tensor(image)
    scores = {
        name: image_quality(_tensor(x) / 255, original) for name, x in (("raw", captured), ("enhanced", enhanced))
    }
    return Relit(captured, enhanced, scores)


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)
