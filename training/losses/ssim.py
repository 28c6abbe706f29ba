"""Structural similarity as a loss."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from llie_preproc.registry import MODELS

_WINDOW = 11


@MODELS.register_module()
class SSIMLoss(nn.Module):
    """1 minus the structural similarity (Zhao et al., 2017; IAML, Eq. 10), computed by torchmetrics.

    The similarity is that of Wang et al.: an 11x11 Gaussian window of standard deviation 1.5, data range 1, and each
    channel on its own. The loss takes its mean over the samples, the channels and the windows that lie inside the
    image.

    >>> import torch
    >>> image = torch.rand(1, 3, 16, 16)
    >>> round(SSIMLoss()(image, image).item(), 4)
    0.0
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar in [0, 2], of ``output`` and ``target`` ``(N, 3, H, W)`` RGB in [0, 1].

        The output is not clamped.

        Raises:
            ValueError: H or W is below 11.
        """
        if min(output.shape[-2:]) < _WINDOW:
            raise ValueError(f"SSIM needs a height and width of at least {_WINDOW}, got {tuple(output.shape)}")
        _, similarity = structural_similarity_index_measure(
            output, target, sigma=1.5, kernel_size=_WINDOW, data_range=1.0, return_full_image=True
        )
        margin = _WINDOW // 2
        # The margin is cut off, because torchmetrics fills its windows with a mirror image beyond the border.
        return 1 - similarity[..., margin:-margin, margin:-margin].mean()
