"""Baselines without learned parameters."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import at_least, one_of, within
from ..ops import power
from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch

# Half an 8-bit step: values below it round to black.
HALF_LEVEL = 0.5 / 255


@MODELS.register_module()
class Identity(Enhancer):
    """Returns its input unchanged: the baseline that every integration is compared with.

    Examples:
        >>> image = torch.rand(1, 3, 4, 4)
        >>> torch.equal(Identity()(image), image)
        True
    """

    def forward(self, image: Tensor) -> Tensor:
        check_image_batch(image)
        return image


@MODELS.register_module()
class GammaCorrection(Enhancer):
    """``image^gamma``: an exponent below 1 brightens, and one above 1 darkens.

    Args:
        gamma: Positive exponent; 1/2.2 is the usual brightening.

    Raises:
        ValueError: ``gamma`` is not a positive number.

    Examples:
        >>> round(GammaCorrection(gamma=0.5)(torch.full((1, 3, 1, 1), 0.25)).mean().item(), 3)
        0.5
    """

    capabilities = Capabilities(precisions=(torch.float32,))

    def __init__(self, gamma: float = 1 / 2.2) -> None:
        super().__init__()
        within("gamma", gamma, above=0)
        self.gamma = gamma

    def forward(self, image: Tensor) -> Tensor:
        check_image_batch(image)
        return power(image.clamp(min=0), self.gamma, HALF_LEVEL)


@MODELS.register_module()
class CLAHE(Enhancer):
    """Contrast-limited adaptive histogram equalisation of the lightness (CIE L*a*b*), by OpenCV.

    The lightness is rounded to 8 bits for the histograms, because the clip limit would lose its effect with the 65,536
    bins that OpenCV uses for 16 bits. The rounded-off part is added back afterwards. No gradient passes.

    Args:
        clip_limit: OpenCV's ``clipLimit``, a positive number.
        grid: Number of tiles along each side.

    Raises:
        ValueError: ``clip_limit`` is not a positive number, or ``grid`` is not a whole number of at least 1.

    Examples:
        >>> ramp = torch.linspace(0.1, 0.2, 64).expand(1, 3, 64, 64)
        >>> equalised = CLAHE()(ramp)
        >>> bool(equalised.std() > ramp.std())
        True
    """

    capabilities = Capabilities(halo=None, differentiable=False, precisions=(torch.float32,))
    onnx_refusal = compile_refusal = "it computes through OpenCV"

    def __init__(self, clip_limit: float = 2.0, grid: int = 8) -> None:
        super().__init__()
        within("clip_limit", clip_limit, above=0)
        at_least("grid", grid, 1)
        self.clip_limit, self.grid = clip_limit, grid

    def forward(self, image: Tensor) -> Tensor:
        check_image_batch(image)
        frames = image.detach().permute(0, 2, 3, 1).float().cpu().numpy()
        equalised = np.stack([self._equalise(frame) for frame in frames])
        return torch.from_numpy(equalised).permute(0, 3, 1, 2).to(image)

    def _equalise(self, frame: np.ndarray) -> np.ndarray:
        # Importing OpenCV takes longer than importing all the networks, so only this enhancer does it.
        import cv2

        lab = cv2.cvtColor(frame.clip(0, 1), cv2.COLOR_RGB2LAB)
        lightness = lab[..., 0] * 2.55
        level = lightness.round().astype(np.uint8)
        clahe = cv2.createCLAHE(self.clip_limit, (self.grid, self.grid))
        lab[..., 0] = (clahe.apply(level) + lightness - level).clip(0, 255) / 2.55
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


# Number of input pixels beyond the nearest one that each interpolation reads.
_SUPPORT = {"bicubic": 2, "nearest": 0}


@MODELS.register_module()
class Upscale(Enhancer):
    """Enlarges by interpolation: the baseline of super-resolution.

    Args:
        scale: Factor of the enlargement, 1, 2 or 4.
        mode: Interpolation, ``'bicubic'`` or ``'nearest'``.

    Raises:
        ValueError: ``scale`` or ``mode`` is none of these.

    Examples:
        >>> Upscale(scale=4)(torch.zeros(1, 3, 5, 6)).shape
        torch.Size([1, 3, 20, 24])
    """

    def __init__(self, scale: int = 2, mode: str = "bicubic") -> None:
        super().__init__()
        one_of("scale", scale, (1, 2, 4))
        one_of("mode", mode, _SUPPORT)
        self.capabilities = Capabilities(scale=scale, halo=_SUPPORT[mode], precisions=(torch.float32,))
        self.mode = mode

    def forward(self, image: Tensor) -> Tensor:
        check_image_batch(image)
        if self.scale == 1:
            return image
        aligned = False if self.mode == "bicubic" else None
        return F.interpolate(image, scale_factor=self.scale, mode=self.mode, align_corners=aligned)
