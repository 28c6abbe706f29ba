"""The auto-encoder of IAML: Illumination-Aware Mirror Loss for Progressive Learning (arXiv 2603.13363).

The paper says "U-Net with CBAM attention used at each scale" (CBAM: Woo et al., ECCV 2018). It does not state width,
depth, norm and activation; this project chose them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least, one_of
from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch

_SLOPE = 0.2
_GROUPS = 8
_REDUCTION = 16


def _biased(conv: nn.Conv2d, bias: float) -> nn.Conv2d:
    """Set the biases of ``conv``, if it has any, to ``bias``, and return it."""
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
    return conv


class _CBAM(nn.Module):
    """Channel attention, then 7x7 spatial attention (CBAM, Eq. 1 to 3).

    The shared perceptron has a leaky ReLU: with a plain ReLU, its two hidden units (at width 32) could die together, so
    that no gradient passes. Both attentions start open (biases 1 and 2, sigmoid(2) = 0.88): if each started at a half,
    the image would fade to a quarter at every scale.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // _REDUCTION, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = _biased(nn.Conv2d(hidden, channels, 1), 1)
        self.spatial = _biased(nn.Conv2d(2, 1, 7, padding=3), 2)

    def _perceptron(self, pooled: Tensor) -> Tensor:
        return self.excite(F.leaky_relu(self.squeeze(pooled), _SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        average, maximum = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        x = x * (self._perceptron(average) + self._perceptron(maximum)).sigmoid()
        statistics = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.spatial(statistics).sigmoid()


def _double_conv(in_channels: int, channels: int, norm: str) -> nn.Sequential:
    """A 3x3 convolution, norm and leaky ReLU, all twice, then CBAM."""
    layers: list[nn.Module] = []
    for inputs in (in_channels, channels):
        # There is no bias in front of a norm, because the norm would subtract it.
        conv = _biased(nn.Conv2d(inputs, channels, 3, padding=1, bias=norm == "none"), 0)
        # Without a norm, PyTorch's default initialisation would shrink the features towards zero at every level.
        nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
        layers += [conv, *([nn.GroupNorm(_GROUPS, channels)] if norm == "group" else [])]
        layers += [nn.LeakyReLU(_SLOPE, inplace=True)]
    return nn.Sequential(*layers, _CBAM(channels))


class _Encoder(nn.Module):
    """Features of the image at ``len(channels)`` scales, each half the size of the one before."""

    def __init__(self, channels: Sequence[int], norm: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _double_conv(i, o, norm) for i, o in zip([3, *channels[:-1]], channels, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.blocks[0](image)]
        for block in self.blocks[1:]:
            features.append(block(F.max_pool2d(features[-1], 2)))
        return features


class _Decoder(nn.Module):
    """Turns the features of the encoder, finest first, into those of each decoder level, coarsest first."""

    def __init__(self, channels: Sequence[int], norm: str) -> None:
        super().__init__()
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for coarse, fine in steps)
        self.blocks = nn.ModuleList(_double_conv(2 * fine, fine, norm) for _, fine in steps)
        self.head = nn.Conv2d(channels[0], 3, 1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        if len(features) != len(self.ups) + 1:
            raise ValueError(
                f"a decoder of {len(self.ups)} levels needs {len(self.ups) + 1} feature maps, got {len(features)}"
            )
        *skips, x = features
        decoded = []
        for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([skip, up(x)], dim=1))
            decoded.append(x)
        return decoded


@MODELS.register_module()
class IAMLUNet(Enhancer):
    """A U-Net of double 3x3 convolutions with CBAM at every scale of encoder and decoder, and a global residual.

    It has 7,817,146 parameters by default (five resolutions, four of them decoded) and 1,940,676 with ``depth=3``.

    Student and teacher (Eq. 1 and 2) share ``encoder``. A teacher's decoder is ``copy.deepcopy(network.decoder)``,
    called with the features that :meth:`encode` returns.

    Args:
        width: Number of channels at full size; it doubles with every halving of the size.
        depth: Number of times that the size is halved, which is also the number of decoder levels.
        norm: Normalisation, ``'none'`` or ``'group'`` (group normalisation with 8 groups). Batch norm is not offered,
            because the clean image also passes the shared encoder, and would change the statistics without a gradient.

    Raises:
        ValueError: ``width`` or ``depth`` is not a whole number of at least 1, ``norm`` is neither of these, or
            ``width`` is not a multiple of the 8 groups.

    Examples:
        >>> network = IAMLUNet(width=4, depth=2)
        >>> image = torch.rand(1, 3, 8, 8)
        >>> [tuple(features.shape[1:]) for features in network.encode(image)]
        [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
        >>> network(image).shape
        torch.Size([1, 3, 8, 8])
    """

    aliases = ("iaml",)

    def __init__(self, width: int = 32, depth: int = 4, norm: str = "none") -> None:
        super().__init__()
        at_least("width", width, 1)
        at_least("depth", depth, 1)
        one_of("norm", norm, ("none", "group"))
        if norm == "group" and width % _GROUPS:
            raise ValueError(f"width must be a multiple of {_GROUPS} with norm 'group', got {width}")
        channels = [width * 2**level for level in range(depth + 1)]
        self.encoder = _Encoder(channels, norm)
        self.decoder = _Decoder(channels, norm)
        self.capabilities = Capabilities(size_divisor=2**depth, halo=None, precisions=(torch.float32, torch.bfloat16))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Feature maps E(image): ``depth + 1`` of shape ``(N, width * 2^i, H / 2^i, W / 2^i)``, finest first.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], H and W multiples of ``capabilities.size_divisor``.

        Raises:
            ValueError: H or W is not such a multiple.
        """
        check_image_batch(image, self.capabilities.size_divisor)
        return self.encoder(image)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of the ``depth`` decoder levels, which the mirror loss compares (Eq. 7 to 9).

        Args:
            features: Result of :meth:`encode`.

        Returns:
            Feature maps ``(N, width * 2^i, H / 2^i, W / 2^i)`` for i from ``depth - 1`` to 0, coarsest first.

        Raises:
            ValueError: There are not ``depth + 1`` feature maps.
        """
        return self.decoder(features)

    def reconstruct(self, image: Tensor, decoded: Sequence[Tensor]) -> Tensor:
        """The enhanced image ``(N, 3, H, W)`` (Eq. 1): ``image`` plus the head's result for the last of ``decoded``."""
        return image + self.decoder.head(decoded[-1])

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1]; the result has the same shape and is not clamped."""
        return self.reconstruct(image, self.decode(self.encode(image)))
