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

    This is the network that inference uses. The public release also holds the self-calibrated module (``calibrate.*``),
    which only prepares the input of further stages in training, so ``llie convert`` leaves it out. By default there are
    255 parameters: the published 0.0003 M, without three biases that batch norm would subtract.

    Args:
        layers: Number of times that the block is applied, always with the same weights.
        channels: Number of channels of the hidden layers.

    Raises:
        ValueError: ``layers`` or ``channels`` is not a whole number of at least 1.

    Examples:
        >>> network = SCI().eval()
        >>> image = torch.rand(1, 3, 4, 4)
        >>> torch.allclose(network(image), image / network.illumination(image))
        True
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
        # Each convolution looks one pixel further.
        self.capabilities = Capabilities(halo=layers + 2)

    def predict_map(self, image: Tensor) -> Tensor:
        """Residual ``(N, 3, H, W)`` in (0, 1) that is added to the image to get its illumination.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        check_image_batch(image)
        features = F.relu(self.first(image))
        for _ in range(self.layers):
            features = features + self.block(features)
        return self.last(features).sigmoid()

    def apply_map(self, image: Tensor, map: Tensor) -> Tensor:
        """Divide the image by its illumination: ``image / clamp(image + map, 1e-4, 1)``."""
        return image / _illumination(image, map)

    def illumination(self, image: Tensor) -> Tensor:
        """Illumination ``(N, 3, H, W)`` of each pixel and channel, in [1e-4, 1] and nowhere below the image itself.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1].
        """
        return _illumination(image, self.predict_map(image))


def _illumination(image: Tensor, residual: Tensor) -> Tensor:
    precision = torch.promote_types(image.dtype, torch.float32)
    return (residual + image).to(precision).clamp(_MIN_ILLUMINATION, 1.0)


def _conv_with_constant_bias(channels: int) -> nn.Conv2d:
    """A 3x3 convolution to stand in front of a batch norm, with a bias that is not trained.

    The batch norm subtracts any bias, so no gradient would reach it. The state dict has it because the release does.
    """
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    del conv.bias
    conv.register_buffer("bias", torch.zeros(channels))
    return conv
