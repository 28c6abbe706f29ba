"""Adaptive gamma correction: the gamma of each region depends on how well the region is exposed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import within
from ..luma import BT601
from ..ops import power
from ..registry import MODELS
from .base import Capabilities, CurveEnhancer, check_image_batch
from .classical import HALF_LEVEL


@MODELS.register_module()
class AdaptiveGamma(CurveEnhancer):
    """Brings regions in too little or too much light to a middle luma, and leaves well-exposed ones as they are.

    The gamma that takes a mean luma ``m`` to a target ``t`` is ``log t / log m`` (Babakhani and Zarei, "Automatic gamma
    correction based on average of brightness", 2015, for whole pictures, t = 0.5). Here ``m`` is local, a Gaussian
    mean, so that a dark face before a bright sky counts as dark. The correction is ``e = log2 gamma``, in doublings of
    the exponent. A correction up to ``leave`` is not made, one from ``correct`` on is made in full, and the share grows
    linearly in between. Nothing is learned.

    Args:
        target: Luma that regions are brought to, in (0, 1).
        reach: Standard deviation of the Gaussian, as a share of the height and of the width.
        leave: Largest correction, in doublings, that is not made at all.
        correct: Smallest correction, in doublings, that is made in full.
        most: Limit of the correction, in doublings.

    Raises:
        ValueError: An argument is outside its range, or ``0 <= leave < correct <= most`` does not hold.

    Examples:
        >>> dark = torch.full((1, 3, 8, 8), 0.05)
        >>> round(AdaptiveGamma(target=0.45)(dark).mean().item(), 3)
        0.45
    """

    capabilities = Capabilities(halo=None, precisions=(torch.float32,))
    grid = 32
    """Number of places along each side at which gammas are computed; the other gammas are interpolated."""

    def __init__(
        self,
        target: float = 0.45,
        reach: float = 0.125,
        leave: float = 0.4,
        correct: float = 0.9,
        most: float = 4.0,
    ) -> None:
        super().__init__()
        within("target", target, above=0, below=1)
        within("reach", reach, above=0)
        for name, doublings in {"leave": leave, "correct": correct, "most": most}.items():
            within(name, doublings, 0)
        if not 0 <= leave < correct <= most:
            raise ValueError(f"0 <= leave < correct <= most must hold, got {leave}, {correct} and {most}")
        self.target, self.reach, self.leave, self.correct, self.most = target, reach, leave, correct, most

    def local_luma(self, image: Tensor) -> Tensor:
        """Gaussian means ``(N, 1, grid, grid)`` of the Rec. 601 luma at the places of the grid.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        weights = image.new_tensor(BT601).view(1, 3, 1, 1)
        luma = (image * weights).sum(dim=1, keepdim=True).clamp(HALF_LEVEL, 1 - HALF_LEVEL)
        rows, columns = (self._means(n, image) for n in image.shape[-2:])
        return rows @ luma @ columns.transpose(-1, -2)

    def gamma_map(self, image: Tensor) -> Tensor:
        """The exponent ``(N, 1, H, W)`` of each pixel; it is 1 where the pixel is left as it is.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        check_image_batch(image)
        doublings = torch.log2(math.log(self.target) / self.local_luma(image).log())
        gate = ((doublings.abs() - self.leave) / (self.correct - self.leave)).clamp(0, 1)
        doublings = (gate * doublings).clamp(-self.most, self.most)
        return 2 ** F.interpolate(doublings, size=image.shape[-2:], mode="bilinear", align_corners=False)

    def predict_map(self, image: Tensor) -> Tensor:
        """The result of :meth:`gamma_map`."""
        return self.gamma_map(image)

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """``image ** map``, the exponent being the result of :meth:`gamma_map`."""
        return power(image.clamp(min=0), map, HALF_LEVEL)

    def _means(self, length: int, like: Tensor) -> Tensor:
        """Weights ``(grid, length)`` of the pixels in the mean at each place of the grid; each row sums to 1."""
        pixels = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / length
        places = (torch.arange(self.grid, device=like.device, dtype=like.dtype) + 0.5) / self.grid
        return torch.softmax(-0.5 * ((places[:, None] - pixels) / self.reach) ** 2, dim=1)
