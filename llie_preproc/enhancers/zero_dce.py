"""Zero-DCE: Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement.

Guo et al., CVPR 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least
from ..registry import MODELS
from .base import Capabilities, CurveEnhancer, check_image_batch


@MODELS.register_module()
class ZeroDCE(CurveEnhancer):
    """Seven 3x3 convolutions predict a quadratic curve for each pixel, channel and iteration.

    By default it has 79,416 parameters, as the public release does.

    Args:
        channels: Number of channels of the hidden layers.
        iterations: Number of curves that are applied one after another.

    Raises:
        ValueError: ``channels`` or ``iterations`` is not a whole number of at least 1.

    Examples:
        >>> network = ZeroDCE(channels=8, iterations=2)
        >>> image = torch.full((1, 3, 1, 1), 0.5)
        >>> network.apply_curves(image, torch.ones(1, 6, 1, 1)).flatten().tolist()
        [0.9375, 0.9375, 0.9375]
    """

    # Each of the seven convolutions looks one pixel further.
    capabilities = Capabilities(halo=7)
    public_keys = ((r"^e_conv", "conv"),)

    def __init__(self, channels: int = 32, iterations: int = 8) -> None:
        super().__init__()
        at_least("channels", channels, 1)
        at_least("iterations", iterations, 1)
        self.iterations = iterations
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv4 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv5 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv6 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv7 = nn.Conv2d(2 * channels, 3 * iterations, 3, padding=1)
        for name, parameter in self.named_parameters():
            # This follows Sec. 4 of the paper: curves that start near zero leave the image almost as it is.
            nn.init.normal_(parameter, std=0.02 if name.endswith("weight") else 0)

    def curve_maps(self, image: Tensor) -> Tensor:
        """The paper's A_n of each pixel, channel and iteration: ``(N, 3 * iterations, H, W)`` in [-1, 1].

        Positive values brighten. The three channels of the first iteration come first. The public code holds ``-A``.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        check_image_batch(image)
        x1 = F.relu(self.conv1(image), inplace=True)
        x2 = F.relu(self.conv2(x1), inplace=True)
        x3 = F.relu(self.conv3(x2), inplace=True)
        x4 = F.relu(self.conv4(x3), inplace=True)
        x5 = F.relu(self.conv5(torch.cat([x3, x4], dim=1)), inplace=True)
        x6 = F.relu(self.conv6(torch.cat([x2, x5], dim=1)), inplace=True)
        return -self.conv7(torch.cat([x1, x6], dim=1)).tanh()

    def apply_curves(self, image: Tensor, maps: Tensor) -> Tensor:
        """Apply Eq. 3, ``LE_n = LE_{n-1} + A_n LE_{n-1} (1 - LE_{n-1})`` from ``LE_0 = image``, in at least float32.

        The result stays in [0, 1], and the values 0 and 1 do not change.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
            maps: Result of :meth:`curve_maps`.
        """
        precision = torch.promote_types(image.dtype, torch.float32)
        enhanced = image.to(precision)
        for curve in maps.to(precision).split(3, dim=1):
            enhanced = enhanced + curve * (enhanced - enhanced.square())
        return enhanced

    def predict_map(self, image: Tensor) -> Tensor:
        """The result of :meth:`curve_maps`."""
        return self.curve_maps(image)

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """The result of :meth:`apply_curves`."""
        return self.apply_curves(image, map)
