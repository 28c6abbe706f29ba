"""How much light each pixel lacks, and the loss of a network that predicts it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-4


def illumination_target(image: Tensor, normal: Tensor) -> Tensor:
    """The share of its light that each pixel lacks, CollaBA's Eq. 4: ``|max(y) - max(x)| / (max(y) + 1e-4)``.

    The maxima are over the channels; the constant, which the paper's text has not, is the public code's.

    Args:
        image: The low-light pictures x, ``(N, 3, H, W)`` in [0, 1].
        normal: The same scenes y in normal light, of the same shape.

    Returns:
        ``(N, 1, H, W)``, non-negative; 0 where the light is right, up to 1 where the input is the darker one.

    Raises:
        ValueError: The shapes differ.
    """
    if image.shape != normal.shape:
        raise ValueError(
            f"the illumination target needs a normal-light picture of the input's size: "
            f"the input has the shape {tuple(image.shape)}, the picture {tuple(normal.shape)}"
        )
    light = normal.amax(dim=1, keepdim=True)
    return (light - image.amax(dim=1, keepdim=True)).abs() / (light + _EPS)


def illumination_prior_loss(attention: Tensor, image: Tensor, normal: Tensor) -> Tensor:
    """Mean squared distance of a predicted attention from :func:`illumination_target` (CollaBA's Eq. 7).

    Args:
        attention: ``(N, 1, H, W)``, of the height and width of ``image``.
        image: As for :func:`illumination_target`.
        normal: As for :func:`illumination_target`.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    target = illumination_target(image, normal)
    if attention.shape != target.shape:
        raise ValueError(f"the attention must have the shape {tuple(target.shape)}, got {tuple(attention.shape)}")
    return F.mse_loss(attention, target)
