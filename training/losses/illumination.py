"""The share of light that each pixel lacks, and the loss of a network that predicts it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-4


def illumination_target(image: Tensor, normal: Tensor) -> Tensor:
    """The share of its light that each pixel lacks (CollaBA, Eq. 4): ``|max(y) - max(x)| / (max(y) + 1e-4)``.

    The maxima are taken over the channels. The constant comes from the public code; the paper's text does not have it.

    >>> import torch
    >>> dark, normal = torch.full((1, 3, 2, 2), 0.2), torch.full((1, 3, 2, 2), 0.8)
    >>> round(illumination_target(dark, normal).mean().item(), 2)
    0.75

    Args:
        image: Low-light pictures x, ``(N, 3, H, W)`` in [0, 1].
        normal: The same scenes y in normal light, of the same shape.

    Returns:
        ``(N, 1, H, W)``, non-negative: 0 where the light is right, and at most 1 where the input is the darker one.

    Raises:
        ValueError: The shapes differ.
    """
    if image.shape != normal.shape:
        raise ValueError(
            f"the illumination target needs a normal-light picture of the input's size: "
            f"the input has the shape {tuple(image.shape)}, the picture has {tuple(normal.shape)}"
        )
    light = normal.amax(dim=1, keepdim=True)
    return (light - image.amax(dim=1, keepdim=True)).abs() / (light + _EPS)


def illumination_prior_loss(attention: Tensor, image: Tensor, normal: Tensor) -> Tensor:
    """Mean squared distance of a predicted attention from :func:`illumination_target` (CollaBA, Eq. 7).

    >>> import torch
    >>> dark, normal = torch.full((1, 3, 2, 2), 0.2), torch.full((1, 3, 2, 2), 0.8)
    >>> round(illumination_prior_loss(torch.full((1, 1, 2, 2), 0.25), dark, normal).item(), 2)
    0.25

    Args:
        attention: Predicted attention, ``(N, 1, H, W)``, with the height and width of ``image``.
        image: Low-light pictures, ``(N, 3, H, W)`` in [0, 1].
        normal: The same scenes in normal light, of the same shape.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    target = illumination_target(image, normal)
    if attention.shape != target.shape:
        raise ValueError(f"the attention must have the shape {tuple(target.shape)}, got {tuple(attention.shape)}")
    return F.mse_loss(attention, target)
