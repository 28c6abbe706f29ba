"""Structural similarity, in the three variants that the literature's tables mix.

Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
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
    """The original's: Gaussian 11x11 window of sigma 1.5, over the pixels that it fits around, no down-sampling.

    Mean over the three channels; K1 = 0.01, K2 = 0.03. On a grey picture, repeated to three channels, this is Wang et
    al.'s MATLAB code without its down-sampling.

    Args:
        enhanced: ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; clamped, not rounded.
        target: The same shape.

    Raises:
        ValueError: The shapes differ, or a side is shorter than the window.
    """
    with needs("the metric 'ssim'"):
        from torchmetrics.functional.image import structural_similarity_index_measure
    first, second = unit_pair(enhanced, target, _WINDOW)
    # torchmetrics' own mean includes a border of reflected pixels.
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
    """scikit-image's default: uniform 7x7 window, sample covariance, 8-bit, mean over the channels.

    Arguments and errors as of :func:`ssim`.

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
    """piq's default: as :func:`ssim`, after average pooling by ``round(min(H, W) / 256)`` (PSENet's tables).

    Arguments and errors as of :func:`ssim`.

    Raises:
        MissingExtraError: piq is not installed.
    """
    require("piq", "the metric 'ssim_piq'")
    import piq

    first, second = unit_pair(enhanced, target, _WINDOW)
    return piq.ssim(first[None], second[None], data_range=1.0, downsample=True).item()
