"""VGG-16 and VGG-19 (Simonyan and Zisserman, ICLR 2015)."""

from __future__ import annotations

import os

from torch import Tensor, nn

from llie_preproc.checks import at_least, one_of
from llie_preproc.registry import MODELS

from .base import SequentialEncoder

# Number of convolutions in each block, before its pooling.
_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_MULTIPLES = (1, 2, 4, 8, 8)


@MODELS.register_module()
class VGGEncoder(SequentialEncoder):
    """The convolutions of VGG-16 or VGG-19, trained to classify ImageNet. Pictures are not resized.

    The stages are ``conv1_1`` (before its ReLU), ``relu1_1`` (after it), ``conv1_2``, ``relu1_2``, ``pool1``,
    ``conv2_1`` and so on up to ``pool5``. The convolutions of block b have 1/2^(b-1) of the input's resolution; the
    five blocks have 64, 128, 256, 512 and 512 channels. The vector is the mean over all positions of the last ReLU, 512
    values.

    >>> import torch
    >>> encoder = VGGEncoder(checkpoint=None, layers=19, width=4)
    >>> [features.shape for features in encoder(torch.rand(1, 3, 16, 16), ["conv1_2", "conv3_4"])]
    [torch.Size([1, 4, 16, 16]), torch.Size([1, 16, 4, 4])]

    Args:
        checkpoint: Path of torchvision's ``vgg16-397923af.pth`` or ``vgg19-dcbb9e9d.pth``. The classifier is not read
            from it. None gives random weights, for tests.
        layers: Number of layers, 16 or 19.
        width: Number of channels of the first block; the public weights have 64.

    Raises:
        ValueError: ``layers`` is neither 16 nor 19, or ``width`` is below 1. When the encoder is used, an image is too
            small for a stage.
        CheckpointError: The checkpoint belongs to another network.
    """

    def __init__(self, *, checkpoint: str | os.PathLike[str] | None, layers: int = 16, width: int = 64) -> None:
        one_of("layers", layers, _CONVOLUTIONS)
        at_least("width", width, 1)
        network: dict[str, nn.Module] = {}
        channels = 3
        for block, (count, multiple) in enumerate(zip(_CONVOLUTIONS[layers], _MULTIPLES, strict=True), 1):
            for i in range(1, count + 1):
                network[f"conv{block}_{i}"] = nn.Conv2d(channels, width * multiple, 3, padding=1)
                # The ReLU does not work in place, because it would overwrite the stage before it.
                network[f"relu{block}_{i}"] = nn.ReLU()
                channels = width * multiple
            network[f"pool{block}"] = nn.MaxPool2d(2)
        super().__init__(list(network))
        self.features = nn.Sequential(*network.values())
        self.freeze(checkpoint)

    def least_side(self, pools: int) -> int:
        """See the base class."""
        return 2**pools

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        last = self.stages[-2]
        return self.maps(image, [last])[last].mean(dim=(2, 3))
