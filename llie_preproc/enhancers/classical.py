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

# Half an 8-bit step: what lies below is black.
HALF_LEVEL = 0.5 / 255


@MODELS.register_module()
class Identity(Enhancer):
    """Returns its input: what every integration is compared with."""

    def forward(self, image: Tensor) -> Tensor:
        check_image_batch(image)
        return image


@MODELS.register_module()
class GammaCorrection(Enhancer):
    """``image^gamma``: below 1 brightens, above 1 darkens.

    Args:
        gamma: Positive exponent. 1/2.2 is the usual brightening.

    Raises:
        ValueError: ``gamma`` is no positive number.
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

    The histograms have 256 bins: OpenCV takes as many as the depth has levels, and over 65,536 the clip limit rounds
    to nothing. What the 256 levels leave out of a finer lightness is added back. No gradient passes.

    Args:
        clip_limit: OpenCV's ``clipLimit``, positive.
        grid: Number of tiles along each side.

    Raises:
        ValueError: ``clip_limit`` is no positive number, or ``grid`` no whole one.
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
        # Its import takes longer than those of all the networks, which need not wait for it.
        import cv2

        lab = cv2.cvtColor(frame.clip(0, 1), cv2.COLOR_RGB2LAB)
        lightness = lab[..., 0] * 2.55
        level = lightness.round().astype(np.uint8)
        clahe = cv2.createCLAHE(self.clip_limit, (self.grid, self.grid))
        lab[..., 0] = (clahe.apply(level) + lightness - level).clip(0, 255) / 2.55
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


# Input pixels beyond the nearest that each interpolation takes in.
_SUPPORT = {"bicubic": 2, "nearest": 0}


@MODELS.register_module()
class Upscale(Enhancer):
    """Interpolation: the baseline of super-resolution.

    Args:
        scale: 1, 2 or 4.
        mode: ``'bicubic'`` or ``'nearest'``.

    Raises:
        ValueError: Another scale or mode.
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
