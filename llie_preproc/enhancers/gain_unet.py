"""A small U-Net that predicts a gain and an offset for each value, made to run in front of a detector.

The network is this project's own. It computes at half the picture's height and width, because detectors shrink their
pictures anyway, and a quarter of the pixels costs a quarter of the time. A gain passes details of full size on, which
features of half the size do not hold. Global pooling follows each block at the coarsest scale (Hu et al.,
"Squeeze-and-Excitation Networks", CVPR 2018), because the right gain depends on the light of the whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least, each
from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch

_DOWN = 2
# The network sees dark levels enlarged too. The smallest step of 8 bits, 1/255, becomes a difference of 0.05.
_LIFT, _LEAST = 0.4, 1e-3
# A picture at -6 EV needs gains of about 8 in encoded levels.
_GAIN = 8.0


def _conv(inputs: int, outputs: int, deviation: float) -> nn.Conv2d:
    """A 3x3 convolution whose weights have the given deviation, without a bias at first."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(conv.weight, std=deviation)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class _Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # He et al., "Delving Deep into Rectifiers" (ICCV 2015). The second convolution is smaller, so that many blocks
        # in a row keep the variance of their input.
        he = math.sqrt(2 / (9 * channels))
        self.first, self.second = _conv(channels, channels, he), _conv(channels, channels, 0.3 * he)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class _GlobalContext(nn.Module):
    """A scale (at first about 1) and a shift (about 0) of each channel, from the means and maxima of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(2 * channels, channels), nn.Linear(channels, 2 * channels)
        # With weights of 0 no gradient would reach the layer before.
        with torch.no_grad():
            self.excite.weight.mul_(0.01)
        nn.init.zeros_(self.excite.bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        scale, shift = self.excite(F.relu(self.squeeze(pooled)))[..., None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


def _blocks(channels: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(number)))


@MODELS.register_module()
class GainUNet(Enhancer):
    """Predicts a gain ``A`` and an offset ``B`` for each value ``x`` of the picture: ``x + 8 A x + B``.

    A new network returns nearly its input, as ``A`` and ``B`` are near 0. Convolutions run in the precision of
    autocast; gain and offset are applied in float32. It has 670,840 parameters by default.

    Args:
        channels: Number of channels at a half, a quarter, an eighth ... of the picture's height and width.
        blocks: Number of residual blocks at each of these scales, in the encoder and again in the decoder.

    Raises:
        ValueError: ``channels`` or ``blocks`` has fewer than two numbers or one below 1, or they differ in length.

    Examples:
        >>> network = GainUNet(channels=(8, 16), blocks=(1, 1))
        >>> image = torch.rand(1, 3, 8, 8)
        >>> network(image).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 96), blocks: Sequence[int] = (1, 1, 2)) -> None:
        super().__init__()
        for name, numbers in (("channels", channels), ("blocks", blocks)):
            each(name, numbers, at_least, 1)
        if len(channels) < 2 or len(blocks) != len(channels):
            raise ValueError(
                f"channels and blocks must have one number for each of at least two scales, got {len(channels)} and "
                f"{len(blocks)}"
            )
        *fine, coarsest = channels
        steps = list(zip(fine, channels[1:], strict=True))
        self.stem = nn.Conv2d(6 * _DOWN**2, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(map(_blocks, fine, blocks))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.middle = nn.Sequential(
            *(layer for _ in range(blocks[-1]) for layer in (_Block(coarsest), _GlobalContext(coarsest)))
        )
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in steps)
        self.decoder = nn.ModuleList(map(_blocks, fine, blocks))
        # A small head changes the picture little at first, and yet passes gradients on.
        self.head = _conv(channels[0], 6 * _DOWN**2, 1e-3)
        self.capabilities = Capabilities(
            size_divisor=_DOWN * 2 ** len(fine), halo=None, precisions=(torch.float32, torch.bfloat16)
        )

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The gain ``8 A`` and the offset ``B`` of a picture, both ``(N, 3, H, W)`` float32.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], H and W multiples of ``capabilities.size_divisor``.

        Raises:
            ValueError: H or W is not such a multiple.
        """
        check_image_batch(image, self.capabilities.size_divisor)
        lifted = torch.cat([image, (image.clamp_min(0) + _LEAST) ** _LIFT], dim=1)
        x = self.stem(F.pixel_unshuffle(lifted, _DOWN))
        skips = []
        for blocks, down in zip(self.encoder, self.downs, strict=True):
            skips.append(blocks(x))
            x = down(skips[-1])
        x = self.middle(x)
        for up, blocks, skip in zip(reversed(self.ups), reversed(self.decoder), reversed(skips), strict=True):
            x = blocks(up(x) + skip)
        gain, offset = F.pixel_shuffle(self.head(x), _DOWN).float().chunk(2, dim=1)
        return _GAIN * gain, offset

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1]; the result has the same shape and is not clamped."""
        gain, offset = self.predict(image)
        return image + gain * image + offset
