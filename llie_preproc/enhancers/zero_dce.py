"""Zero-DCE and Zero-DCE++: zero-reference deep curve estimation for low-light image enhancement.

Guo et al., CVPR 2020; Li, Guo and Loy, TPAMI 2021.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

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
    shared: ClassVar[bool] = False
    """Whether all iterations apply the same curves."""

    def __init__(self, channels: int = 32, iterations: int = 8) -> None:
        super().__init__()
        at_least("channels", channels, 1)
        at_least("iterations", iterations, 1)
        self.iterations = iterations
        self.conv1 = self.layer(3, channels)
        self.conv2 = self.layer(channels, channels)
        self.conv3 = self.layer(channels, channels)
        self.conv4 = self.layer(channels, channels)
        self.conv5 = self.layer(2 * channels, channels)
        self.conv6 = self.layer(2 * channels, channels)
        self.conv7 = self.layer(2 * channels, 3 if self.shared else 3 * iterations)
        for name, parameter in self.named_parameters():
            # This follows Sec. 4 of the paper: curves that start near zero leave the image almost as it is.
            nn.init.normal_(parameter, std=0.02 if name.endswith("weight") else 0)

    @staticmethod
    def layer(inputs: int, outputs: int) -> nn.Module:
        """One of the seven layers, which keeps height and width."""
        return nn.Conv2d(inputs, outputs, 3, padding=1)

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
        curves = maps.to(precision).split(3, dim=1)
        for curve in curves * self.iterations if self.shared else curves:
            enhanced = enhanced + curve * (enhanced - enhanced.square())
        return enhanced

    def predict_map(self, image: Tensor) -> Tensor:
        """The result of :meth:`curve_maps`."""
        return self.curve_maps(image)

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """The result of :meth:`apply_curves`."""
        return self.apply_curves(image, map)


@MODELS.register_module()
class ZeroDCEPlusPlus(ZeroDCE):
    """Zero-DCE++: depthwise separable convolutions predict one curve for each pixel and channel, on a small picture.

    All iterations apply that curve. The small picture has a twelfth of the height and width, so the network costs
    little. By default it has 10,561 parameters, as the public release does.

    Args:
        channels: Number of channels of the hidden layers.
        iterations: Number of times that the curve is applied.
        downscale: Number of pixels, in each direction, that share a pixel of the small picture; 1 predicts at full
            size.

    Raises:
        ValueError: ``channels``, ``iterations`` or ``downscale`` is not a whole number of at least 1.

    Examples:
        >>> network = ZeroDCEPlusPlus(channels=8, iterations=2)
        >>> network.curve_maps(torch.rand(1, 3, 50, 70)).shape
        torch.Size([1, 3, 50, 70])
        >>> network.apply_curves(torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 3, 1, 1)).flatten().tolist()
        [0.9375, 0.9375, 0.9375]
    """

    # A pixel's place in the small picture depends on the size of the whole picture.
    capabilities = Capabilities(halo=None)
    aliases = ("zero-dce++", "zero_dce++", "zerodce++", "zero_dce_pp")
    shared = True

    def __init__(self, channels: int = 32, iterations: int = 8, downscale: int = 12) -> None:
        super().__init__(channels, iterations)
        at_least("downscale", downscale, 1)
        self.downscale = downscale

    @staticmethod
    def layer(inputs: int, outputs: int) -> nn.Module:
        """A 3x3 convolution of each channel by itself, then a 1x1 convolution."""
        depth = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        return nn.Sequential(OrderedDict(depth_conv=depth, point_conv=nn.Conv2d(inputs, outputs, 1)))

    def curve_maps(self, image: Tensor) -> Tensor:
        """The paper's A of each pixel and channel, which all iterations share: ``(N, 3, H, W)`` in [-1, 1].

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        check_image_batch(image)
        height, width = image.shape[-2:]
        # Sides that are no multiple are rounded up, so that none of their pixels is cut off. The public code cuts.
        small = ((height + self.downscale - 1) // self.downscale, (width + self.downscale - 1) // self.downscale)
        maps = super().curve_maps(F.interpolate(image, small, mode="bilinear"))
        return F.interpolate(maps, (height, width), mode="bilinear", align_corners=True)
