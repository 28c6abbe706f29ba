"""FSIM, the similarity of phase congruency and gradients.

Sources: Zhang, Zhang, Mou, Zhang: FSIM: A Feature Similarity Index for Image Quality Assessment, 2011; for phase
congruency, Kovesi: Image Features from Phase Congruency, 1999.
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

# A picture must hold the shortest wavelength.
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
    """FSIMc, the paper's index for colour pictures, computed by piq; 1 for equal pictures.

    The pictures are compared in YIQ, after down-sampling by ``round(min(H, W) / 256)``.

    >>> import torch
    >>> image = torch.rand(3, 16, 16)
    >>> round(fsimc(image, image), 4)
    1.0

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped, not rounded.
        target: Reference picture of the same shape.

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
    """FSIM as in the package image-similarity-measures and in CollaBA's tables.

    Each colour band is compared by itself, without down-sampling; the result is the mean over the bands. The filters
    have 4 scales (from wavelength 6, factor 2, sigma on f 0.5978) and 6 orientations with a raised-cosine spread. The
    phase congruencies of the orientations are added. T1 is 0.85; T2 is 160, on an unscaled Scharr gradient. Like the
    package, this function computes the gradient in unsigned 16 bits: negative derivatives become 0 and squares wrap at
    65,536. The result is NaN for two flat pictures.

    >>> import torch
    >>> image = torch.zeros(3, 16, 16)
    >>> image[..., 8:] = 1
    >>> round(fsim_bands(image, image), 4)
    1.0

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is converted to 8-bit levels.
        target: Reference picture of the same shape.

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
    """The sum over orientations, ``(H, W)``, of Kovesi's measure with noise compensation and frequency spread."""
    spectrum = np.fft.fft2(band.astype(np.float64))
    return np.sum([_oriented_congruency(np.fft.ifft2(spectrum * bank)) for bank in filters], axis=0)


def _oriented_congruency(responses: np.ndarray) -> np.ndarray:
    """The congruency of one orientation, from its complex responses ``(scales, H, W)``.

    Their even parts are real and their odd parts imaginary.
    """
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
    """The mean plus two deviations of the energy of noise (Rayleigh distributed), by the median of the finest scale."""
    tau = np.median(finest) / math.sqrt(math.log(4))
    tau *= (1 - (1 / _MULTIPLIER) ** _SCALES) / (1 - 1 / _MULTIPLIER)
    return max(tau * (math.sqrt(math.pi / 2) + _NOISE_DEVIATIONS * math.sqrt((4 - math.pi) / 2)), _EPSILON)


def _log_gabor(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The transfer functions ``(scales, H, W)`` of each orientation, with the zero frequency first."""
    down, across = (_frequencies(n) for n in size)
    radius = np.hypot(down[:, None], across)
    lowpass = 1 / (1 + (radius / _LOWPASS_CUTOFF) ** (2 * _LOWPASS_ORDER))
    angle = np.arctan2(-down[:, None], across)
    # This avoids the logarithm of 0; the filter is set to 0 at the zero frequency below.
    radius[0, 0] = 1
    wavelengths = _MIN_WAVELENGTH * _MULTIPLIER ** np.arange(_SCALES)
    radial = np.exp(-(np.log(radius * wavelengths[:, None, None]) ** 2) / (2 * math.log(_SIGMA_ON_F) ** 2)) * lowpass
    radial[:, 0, 0] = 0
    for orientation in range(_ORIENTATIONS):
        distance = np.abs(np.angle(np.exp(1j * (angle - orientation * math.pi / _ORIENTATIONS))))
        yield radial * (1 + np.cos(np.minimum(distance * _ORIENTATIONS / 2, math.pi))) / 2


def _frequencies(length: int) -> np.ndarray:
    """Kovesi's grid of frequencies from -0.5 to 0.5, with both ends for odd lengths; the zero frequency comes first."""
    steps = np.arange(length) - length // 2
    return np.fft.ifftshift(steps / (length - length % 2))
