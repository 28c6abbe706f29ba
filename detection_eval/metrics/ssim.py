"""Structural similarity, in the three variants that the tables of papers mix.

Source: Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
"""

from __future__ import annotations

from torch import Tensor

from llie_preproc.errors import needs, require

from .arrays import to_bytes, unit_pair
from .meters import meter

_WINDOW = 11
_UNIFORM = 7


@meter(
    "ssim",
    "SSIM {:.4f}",
    "RGB, Gaussian 11x11 of sigma 1.5, where the window fits, no down-sampling (Wang et al.'s MATLAB code)",
    beside="target",
)
def ssim(enhanced: Tensor, target: Tensor) -> float:
    """The original similarity: a Gaussian window of 11x11 and sigma 1.5, K1 = 0.01, K2 = 0.03, no down-sampling.

    It is the mean over the three channels and over the windows that lie inside the picture. On a grey picture that is
    repeated to three channels, this is Wang et al.'s MATLAB code without its down-sampling.

    >>> import torch
    >>> image = torch.rand(3, 16, 16)
    >>> round(ssim(image, image), 4)
    1.0

    Args:
        enhanced: Enhanced picture, ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped, not rounded.
        target: Reference picture of the same shape.

    Raises:
        ValueError: The shapes differ, or a side is shorter than the window.
    """
    with needs("the metric 'ssim'"):
        from torchmetrics.functional.image import structural_similarity_index_measure
    first, second = unit_pair(enhanced, target, _WINDOW)
    # The border is cut off, because torchmetrics fills its windows with a reflection of the picture.
    full = structural_similarity_index_measure(first[None], second[None], data_range=1.0, return_full_image=True)[1]
    border = _WINDOW // 2
    return full[..., border:-border, border:-border].mean().item()


@meter(
    "ssim_skimage",
    "SSIM-skimage {:.4f}",
    "8-bit RGB, uniform 7x7, sample covariance (scikit-image's default)",
    beside="target",
    library="skimage",
)
def ssim_skimage(enhanced: Tensor, target: Tensor) -> float:
    """scikit-image's default: a uniform window of 7x7, sample covariance, 8-bit pictures, the mean over the channels.

    Arguments and errors are those of :func:`ssim`, with a window of 7x7.

    >>> import torch
    >>> image = torch.rand(3, 16, 16)
    >>> round(ssim_skimage(image, image), 4)
    1.0

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    require("skimage", "the metric 'ssim_skimage'", "metrics")
    from skimage.metrics import structural_similarity

    unit_pair(enhanced, target, _UNIFORM)
    return float(structural_similarity(to_bytes(enhanced), to_bytes(target), channel_axis=2, data_range=255))


@meter(
    "ssim_piq",
    "SSIM-piq {:.4f}",
    "RGB, Gaussian 11x11 of sigma 1.5, average-pooled by round(min(H, W) / 256) (piq's default)",
    beside="target",
    library="piq",
)
def ssim_piq(enhanced: Tensor, target: Tensor) -> float:
    """piq's default: :func:`ssim` after average pooling by ``round(min(H, W) / 256)``, as in PSENet's tables.

    Arguments and errors are those of :func:`ssim`.

    >>> import torch
    >>> image = torch.rand(3, 16, 16)
    >>> round(ssim_piq(image, image), 4)
    1.0

    Raises:
        MissingExtraError: piq is not installed.
    """
    require("piq", "the metric 'ssim_piq'")
    import piq

    first, second = unit_pair(enhanced, target, _WINDOW)
    return piq.ssim(first[None], second[None], data_range=1.0, downsample=True).item()
