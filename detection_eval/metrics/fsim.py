"""FSIM: similarity of phase congruency and gradients.

Zhang, Zhang, Mou, Zhang: FSIM: A Feature Similarity Index for Image Quality Assessment, 2011. Phase congruency: Kovesi:
Image Features from Phase Congruency, 1999.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from torch import Tensor

from llie_preproc.errors import require

from .arrays import to_bytes, unit_pair
from .meters import meter

# The shortest wavelength.
_MIN_SIDE = 6
_SCALES, _ORIENTATIONS, _MIN_WAVELENGTH, _MULTIPLIER, _SIGMA_ON_F = 4, 6, 6, 2, 0.5978
_NOISE_DEVIATIONS, _SPREAD_CUTOFF, _SPREAD_GAIN = 2.0, 0.5, 10.0
_LOWPASS_CUTOFF, _LOWPASS_ORDER = 0.45, 15
_T1, _T2 = 0.85, 160.0
_EPSILON = 1e-4


@meter(
    "fsim",
    "FSIM {:.4f}",
    "FSIMc of RGB, average-pooled by round(min(H, W) / 256) (piq)",
    beside="target",
    library="piq",
)
def fsimc(enhanced: Tensor, target: Tensor) -> float:
    """FSIMc, the paper's index for colour, by piq: YIQ, down-sampled by ``round(min(H, W) / 256)``, 1 for equal ones.

    Args:
        enhanced: ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; clamped, not rounded.
        target: The same shape.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 6.
        MissingExtraError: piq is not installed.
    """
    require("piq", "the metric 'fsim'")
    import piq

    first, second = (x.double()[None] for x in unit_pair(enhanced, target, _MIN_SIDE))
    return piq.fsim(first, second, data_range=1.0, chromatic=True).item()


@meter(
    "fsim_bands",
    "FSIM-bands {:.4f}",
    "8-bit RGB, mean over bands, 6 orientations, no down-sampling (image-similarity-measures)",
    beside="target",
)
def fsim_bands(enhanced: Tensor, target: Tensor) -> float:
    """The package image-similarity-measures' FSIM: each band by itself, then their mean; no down-sampling.

    4 scales from wavelength 6, factor 2, sigma on f 0.5978, 6 orientations with raised-cosine spread, their phase
    congruencies added; T1 0.85, T2 160 on an unscaled Scharr gradient. That gradient is taken as the package takes it,
    in unsigned 16 bits: negative derivatives are 0 and squares wrap at 65,536. CollaBA's tables have it. NaN for two
    flat pictures.

    Args:
        enhanced: ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; taken as 8-bit.
        target: The same shape.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 6.
    """
    unit_pair(enhanced, target, _MIN_SIDE)
    first, second = to_bytes(enhanced), to_bytes(target)
    filters = list(_log_gabor(first.shape[:2]))
    return float(np.mean([_band_similarity(first[..., c], second[..., c], filters) for c in range(3)]))


def _band_similarity(first: np.ndarray, second: np.ndarray, filters: list[np.ndarray]) -> float:
    congruency = [_phase_congruency(x, filters) for x in (first, second)]
    gradient = [_gradient(x) for x in (first, second)]
    weight = np.maximum(*congruency)
    similarity = _similarity(_T1, *congruency) * _similarity(_T2, *gradient)
    return float((similarity * weight).sum() / weight.sum()) if weight.any() else math.nan


def _similarity(constant: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (2 * x * y + constant) / (x**2 + y**2 + constant)


def _gradient(band: np.ndarray) -> np.ndarray:
    across, down = (cv2.Scharr(band, cv2.CV_16U, dx, 1 - dx) for dx in (1, 0))
    return np.sqrt(across**2 + down**2).astype(np.float64)


def _phase_congruency(band: np.ndarray, filters: list[np.ndarray]) -> np.ndarray:
    """Sum over orientations, ``(H, W)``, of Kovesi's measure with noise compensation and frequency spread weight."""
    spectrum = np.fft.fft2(band.astype(np.float64))
    return np.sum([_oriented_congruency(np.fft.ifft2(spectrum * bank)) for bank in filters], axis=0)


def _oriented_congruency(responses: np.ndarray) -> np.ndarray:
    """One orientation, from its ``(scales, H, W)`` complex responses: even part real, odd part imaginary."""
    amplitude = np.abs(responses)
    total = responses.sum(axis=0)
    direction = total / (np.abs(total) + _EPSILON)
    aligned = responses * direction.conj()
    energy = (aligned.real - np.abs(aligned.imag)).sum(axis=0)
    width = (amplitude.sum(axis=0) / (amplitude.max(axis=0) + _EPSILON) - 1) / (_SCALES - 1)
    weight = 1 / (1 + np.exp(_SPREAD_GAIN * (_SPREAD_CUTOFF - width)))
    above = weight * np.maximum(energy - _noise_threshold(amplitude[0]), 0)
    # A flat picture has no amplitude, and no congruency.
    return np.divide(above, amplitude.sum(axis=0), out=np.zeros_like(above), where=above > 0)


def _noise_threshold(finest: np.ndarray) -> float:
    """Mean and two deviations of the energy of noise, Rayleigh distributed, from the finest scale's median."""
    tau = np.median(finest) / math.sqrt(math.log(4))
    tau *= (1 - (1 / _MULTIPLIER) ** _SCALES) / (1 - 1 / _MULTIPLIER)
    return max(tau * (math.sqrt(math.pi / 2) + _NOISE_DEVIATIONS * math.sqrt((4 - math.pi) / 2)), _EPSILON)


def _log_gabor(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """``(scales, H, W)`` transfer functions for each orientation, zero frequency first."""
    down, across = (_frequencies(n) for n in size)
    radius = np.hypot(down[:, None], across)
    lowpass = 1 / (1 + (radius / _LOWPASS_CUTOFF) ** (2 * _LOWPASS_ORDER))
    angle = np.arctan2(-down[:, None], across)
    # The zero frequency is taken out below.
    radius[0, 0] = 1
    wavelengths = _MIN_WAVELENGTH * _MULTIPLIER ** np.arange(_SCALES)
    radial = np.exp(-(np.log(radius * wavelengths[:, None, None]) ** 2) / (2 * math.log(_SIGMA_ON_F) ** 2)) * lowpass
    radial[:, 0, 0] = 0
    for orientation in range(_ORIENTATIONS):
        distance = np.abs(np.angle(np.exp(1j * (angle - orientation * math.pi / _ORIENTATIONS))))
        yield radial * (1 + np.cos(np.minimum(distance * _ORIENTATIONS / 2, math.pi))) / 2


def _frequencies(length: int) -> np.ndarray:
    """-0.5 to 0.5 in Kovesi's grid, which for odd lengths has both ends; zero frequency first."""
    steps = np.arange(length) - length // 2
    return np.fft.ifftshift(steps / (length - length % 2))
