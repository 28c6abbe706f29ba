"""SCI: Toward Fast, Flexible, and Robust Low-Light Image Enhancement (self-calibrated illumination).

Ma et al., CVPR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least
from ..registry import MODELS
from .base import Capabilities, CurveEnhancer, check_image_batch

_MIN_ILLUMINATION = 1e-4


@MODELS.register_module()
class SCI(CurveEnhancer):
    """Divides the image by an illumination that a few 3x3 convolutions estimate (Retinex).

    The network at inference. The public release also holds the self-calibrated module (``calibrate.*``), which
    prepares the input of the further stages in training and is not part of it: ``llie convert`` leaves it out.
    255 parameters by default: the published 0.0003 M, without three biases that batch norm takes out again.

    Args:
        layers: How often the block, one set of weights, is applied.
        channels: Of the hidden layers.

    Raises:
        ValueError: ``layers`` or ``channels`` is no whole number of at least 1.
    """

    public_keys = (
        (r"^enhance\.in_conv\.0\.", "first."),
        # The release lists the one shared block once for itself and once for each layer.
        (r"^enhance\.(conv|blocks\.\d+)\.", "block."),
        (r"^enhance\.out_conv\.0\.", "last."),
    )

    def __init__(self, layers: int = 1, channels: int = 3) -> None:
        super().__init__()
        at_least("layers", layers, 1)
        at_least("channels", channels, 1)
        self.layers = layers
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.block = nn.Sequential(_conv_with_constant_bias(channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        # One pixel for each convolution.
        self.capabilities = Capabilities(halo=layers + 2)

    def predict_map(self, image: Tensor) -> Tensor:
        """What the network adds to the image to make its illumination: ``(N, 3, H, W)`` in (0, 1).

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        check_image_batch(image)
        features = F.relu(self.first(image))
        for _ in range(self.layers):
            features = features + self.block(features)
        return self.last(features).sigmoid()

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """The image over the illumination, ``image / clamp(image + map, 1e-4, 1)``."""
        return image / _illumination(image, map)

    def illumination(self, image: Tensor) -> Tensor:
        """The illumination of each pixel and channel, ``(N, 3, H, W)`` in [1e-4, 1], at least the image itself.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        return _illumination(image, self.predict_map(image))


def _illumination(image: Tensor, residual: Tensor) -> Tensor:
    precision = torch.promote_types(image.dtype, torch.float32)
    return (residual + image).to(precision).clamp(_MIN_ILLUMINATION, 1.0)


def _conv_with_constant_bias(channels: int) -> nn.Conv2d:
    """A 3x3 convolution for in front of a batch norm, which takes any bias out again: no gradient would reach it.

    The release has one, so it stays in the state dict.
    """
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    del conv.bias
    conv.register_buffer("bias", torch.zeros(channels))
    return conv
