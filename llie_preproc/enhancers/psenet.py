"""PSENet: Progressive Self-Enhancement Network for Unsupervised Extreme-Light Image Enhancement.

Nguyen et al., WACV 2023. Layers follow Table 4 and Fig. 13 of the paper's supplement.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import within
from ..ops import inverse_gamma
from ..registry import MODELS
from .base import Capabilities, CurveEnhancer, check_image_batch


class _SqueezeExcitation(nn.Module):
    """Channel re-weighting without a final sigmoid, reduction 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels, 1)
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = x.mean(dim=(2, 3), keepdim=True)
        return x * self.excite(F.relu(self.squeeze(weight)))


class _InvertedBottleneck(nn.Module):
    """1x1 expand, depth-wise 3x3, optional squeeze-and-excitation, 1x1 project (MobileNetV2/V3 block, no norm)."""

    def __init__(self, in_channels: int, out_channels: int, expanded: int, stride: int = 1, se: bool = False) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, expanded, 1)
        self.depthwise = nn.Conv2d(
            expanded, expanded, 3, stride=stride, padding=1, groups=expanded, padding_mode="reflect"
        )
        self.se = _SqueezeExcitation(expanded) if se else None
        self.project = nn.Conv2d(expanded, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        # This works in place to save memory traffic, which takes most of the time at full size; gradients stay right.
        y = self.depthwise(F.leaky_relu(self.expand(x), inplace=True))
        if self.se is not None:
            y = self.se(y)
        y = self.project(F.leaky_relu(y, inplace=True))
        return y.add_(x) if self.residual else y


def _upsample_to(x: Tensor, reference: Tensor) -> Tensor:
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=True)


@MODELS.register_module()
class PSENet(CurveEnhancer):
    """A lightweight U-Net that predicts one gamma for each pixel and channel, and applies it to the inverted image.

    With the default width it has 15,251 parameters and takes 1.804 GMACs at 1080x720, as published (Table 3, which
    counts pooling and interpolation).

    Args:
        width: Multiplier of the inner channel numbers (0.5, 1 and 2 are the rows of Table 6).

    Raises:
        ValueError: ``width`` is not a positive number, or leaves no channel.

    Examples:
        >>> network = PSENet()
        >>> sum(parameter.numel() for parameter in network.parameters())
        15251
        >>> network.gamma_map(torch.rand(1, 3, 8, 8)).shape
        torch.Size([1, 3, 8, 8])
    """

    aliases = ("ps_net",)
    # Each stride-2 level needs a size above one for its reflection padding: 5 -> 3 -> 2.
    capabilities = Capabilities(min_size=5, halo=None, precisions=(torch.float32, torch.bfloat16))
    public_keys = (
        (r"^first_conv\.", "first."),
        (r"^conv1\.", "down1."),
        (r"^conv2\.", "level1."),
        (r"^conv3\.", "down2."),
        (r"^conv5\.", "level2."),
        (r"^conv6\.", "narrow2."),
        (r"^conv7\.", "up1."),
        (r"^conv8\.", "to_rgb."),
        (r"^last_conv\.", "last."),
        (r"\.conv\.0\.", ".expand."),
        (r"\.conv\.2\.", ".depthwise."),
        (r"\.conv\.3\.fc\.0\.", ".se.squeeze."),
        (r"\.conv\.3\.fc\.2\.", ".se.excite."),
        (r"\.conv\.5\.", ".project."),
    )

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        within("width", width, above=0)
        base = round(16 * width)
        if base < 1:
            raise ValueError(f"width {width} leaves no channel: it must be at least 1/16")
        half, quarter, narrow, wide = base, 2 * base, round(1.5 * base), 3 * base
        block = _InvertedBottleneck
        self.first = block(3, 3, 6, se=True)
        self.down1 = block(3, half, narrow, stride=2)
        self.level1 = block(half, half, narrow)
        self.down2 = block(half, quarter, wide, stride=2)
        self.level2 = block(quarter, quarter, wide)
        self.narrow2 = block(quarter, half, wide)
        self.up1 = block(2 * half, half, wide)
        self.to_rgb = block(half, 3, narrow)
        self.last = block(6, 3, 9, se=True)

    def gamma_map(self, image: Tensor) -> Tensor:
        """The gamma ``|r + 1|`` of each pixel and channel, ``(N, 3, H, W)``, which is not negative.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], H and W at least 5.
        """
        check_image_batch(image)
        full = self.first(image)
        half = self.level1(self.down1(full))
        quarter = self.narrow2(self.level2(self.down2(half)))
        half = self.to_rgb(self.up1(torch.cat([half, _upsample_to(quarter, half)], dim=1)))
        joined = torch.cat([full, _upsample_to(half, full)], dim=1)
        precision = self.last.expand.weight.dtype
        if joined.dtype == precision:
            return (self.last(joined) + 1).abs()
        # In autocast's precision, the small differences between neighbours that the smoothness loss sees would vanish.
        with torch.autocast(image.device.type, enabled=False):
            return (self.last(joined.to(precision)) + 1).abs()

    def apply_gamma(self, image: Tensor, gamma: Tensor) -> Tensor:
        """Apply Eq. 6, ``1 - (1 - image)^gamma``, in at least float32."""
        precision = torch.promote_types(image.dtype, torch.float32)
        return inverse_gamma(image.to(precision), gamma.to(precision))

    def predict_map(self, image: Tensor) -> Tensor:
        """The result of :meth:`gamma_map`."""
        return self.gamma_map(image)

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """The result of :meth:`apply_gamma`."""
        return self.apply_gamma(image, map)
