"""Semi-LLIE's gradient loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.ops import gradient_map
from llie_preproc.registry import MODELS


@MODELS.register_module()
class GradientLoss(nn.Module):
    """Mean absolute difference of the gradient maps of two images (Semi-LLIE, Eq. 6).

    :func:`llie_preproc.ops.gradient_map` defines the maps.

    >>> import torch
    >>> image = torch.rand(1, 3, 8, 8)
    >>> GradientLoss()(image, image).item()
    0.0
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of ``output`` and ``target`` ``(N, 3, H, W)`` RGB."""
        return F.l1_loss(gradient_map(output), gradient_map(target))
