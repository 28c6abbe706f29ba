"""Sharpening of references, as training for real-world super-resolution does it."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

_TAPS = 51
# OpenCV derives sigma from the number of taps by this rule; 51 taps give 8.
_SIGMA = 0.3 * ((_TAPS - 1) * 0.5 - 1) + 0.8


def unsharp_mask(image: Tensor, weight: float = 0.5, threshold: float = 10 / 255) -> Tensor:
    """Sharpen an image where it has detail (unsharp masking with a soft mask).

    Let B be a Gaussian blur of 51 taps and sigma 8, ``d = image - B(image)`` and ``m = B(|d| > threshold)``. The
    result is ``m * clip(image + weight * d) + (1 - m) * image``, for each channel by itself. CollaBA's public code
    compares the output with such references in its pixel and perceptual terms, but not in the adversarial term.

    >>> import torch
    >>> image = torch.full((1, 3, 32, 32), 0.25)
    >>> image[..., 16:] = 0.75
    >>> sharpened = unsharp_mask(image)
    >>> bool(sharpened.amin() < 0.25), bool(sharpened.amax() > 0.75)
    (True, True)

    Args:
        image: ``(N, 3, H, W)`` in [0, 1], H and W at least 26.
        weight: Factor of the detail that is added.
        threshold: Smallest detail that counts, as a share of full scale.

    Returns:
        A tensor of the same shape, in [0, 1].

    Raises:
        ValueError: H or W is below 26, the least that the reflected border allows.
    """
    smallest = _TAPS // 2 + 1
    if min(image.shape[-2:]) < smallest:
        raise ValueError(
            f"sharpening needs a height and width of at least {smallest}, got the shape {tuple(image.shape)}: "
            "take larger crops, or leave the references as they are (sharpen_target=False)"
        )
    detail = image - _blur(image)
    mask = _blur((detail.abs() > threshold).to(image.dtype))
    sharpened = (image + weight * detail).clamp(0, 1)
    return mask * sharpened + (1 - mask) * image


def _blur(image: Tensor) -> Tensor:
    """Blur rows, then columns: this takes 102 multiplications a value, where one 51x51 kernel takes 2,601."""
    rows = gaussian_blur(image, [_TAPS, 1], [_SIGMA, _SIGMA])
    return gaussian_blur(rows, [1, _TAPS], [_SIGMA, _SIGMA])
