"""VGG-16 and VGG-19 (Simonyan and Zisserman, ICLR 2015)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor, nn

from llie_preproc.checks import at_least, one_of
from llie_preproc.registry import MODELS

from .base import FeatureEncoder

# Convolutions between two poolings.
_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_MULTIPLES = (1, 2, 4, 8, 8)


@MODELS.register_module()
class VGGEncoder(FeatureEncoder):
    """The convolutions of VGG-16 or VGG-19, ImageNet classification; no resizing.

    Stages: ``conv1_1`` (before its ReLU), ``relu1_1`` (after), ``conv1_2``, ``relu1_2``, ``pool1``, ``conv2_1`` and so
    on to ``pool5``. Block b is at 1/2^(b-1) of the input's resolution and has 64, 128, 256, 512, 512 channels. The
    vector is the mean over all positions of the last ReLU, 512 values.

    Args:
        checkpoint: Path of torchvision's ``vgg16-397923af.pth`` or ``vgg19-dcbb9e9d.pth``; the classifier in it is left
            out. None: random weights, for tests.
        layers: 16 or 19.
        width: Channels of the first block; the public weights have 64.

    Raises:
        ValueError: Another number of layers, or a width below 1; later, an image too small for a stage.
        CheckpointError: The checkpoint is of another network.
    """

    def __init__(self, *, checkpoint: str | os.PathLike[str] | None, layers: int = 16, width: int = 64) -> None:
        one_of("layers", layers, _CONVOLUTIONS)
        at_least("width", width, 1)
        network: dict[str, nn.Module] = {}
        channels = 3
        for block, (count, multiple) in enumerate(zip(_CONVOLUTIONS[layers], _MULTIPLES, strict=True), 1):
            for i in range(1, count + 1):
                network[f"conv{block}_{i}"] = nn.Conv2d(channels, width * multiple, 3, padding=1)
                # Not in place: that would overwrite the stage before it.
                network[f"relu{block}_{i}"] = nn.ReLU()
                channels = width * multiple
            network[f"pool{block}"] = nn.MaxPool2d(2)
        super().__init__(list(network))
        self.features = nn.Sequential(*network.values())
        self.freeze(checkpoint)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        computed = self.stages[: self.stages.index(stages[-1]) + 1]
        least = 2 ** sum(name.startswith("pool") for name in computed)
        if min(image.shape[-2:]) < least:
            shape = tuple(image.shape)
            raise ValueError(f"the stage {stages[-1]} needs a height and width of at least {least}, got {shape}")
        x, found = self.normalised(image), {}
        for name, layer in zip(computed, self.features, strict=False):
            x = layer(x)
            found[name] = x
        return {name: found[name] for name in stages}

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        last = self.stages[-2]
        return self.maps(image, [last])[last].mean(dim=(2, 3))
