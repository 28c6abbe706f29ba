"""SqueezeNet 1.1 (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016)."""

from __future__ import annotations

import os

from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from llie_preproc.checks import one_of
from llie_preproc.registry import MODELS

from .base import IMAGENET_MEAN, IMAGENET_STD, SequentialEncoder

_STAGES = (
    "conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5", "fire6", "fire7", "fire8", "fire9"
)  # fmt: skip
# Mean and deviation of the pictures, RGB in [0, 1]. Caffe's networks see levels of 0 to 255, less their mean.
_NORMALISATIONS = {
    "caffe": ((123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255)),
    "torchvision": (IMAGENET_MEAN, IMAGENET_STD),
}


@MODELS.register_module()
class SqueezeNetEncoder(SequentialEncoder):
    """The trunk of SqueezeNet 1.1, trained to classify ImageNet. Pictures are not resized.

    It has 722,496 parameters, a twentieth of those of VGG-16's convolutions.

    The stages are ``conv1`` (before its ReLU) and ``relu1`` (after it) at 1/2 of the input's resolution, ``pool1``,
    ``fire2`` and ``fire3`` at 1/4, ``pool3``, ``fire4`` and ``fire5`` at 1/8, and ``pool5`` and ``fire6`` to ``fire9``
    at 1/16. The vector is the mean over all positions of ``fire9``, 512 values.

    >>> import torch
    >>> encoder = SqueezeNetEncoder(checkpoint=None, normalisation="caffe")
    >>> [features.shape for features in encoder(torch.rand(1, 3, 64, 64), ["fire3", "fire9"])]
    [torch.Size([1, 128, 15, 15]), torch.Size([1, 512, 3, 3])]

    Args:
        checkpoint: Path of a state dict in torchvision's names, such as its ``squeezenet1_1-b8a52dc0.pth``. The
            classifier is not read from it. None gives random weights, for tests.
        normalisation: Input that the weights were trained with: ``'caffe'`` for those that were converted from the
            authors' Caffe model (BGR, levels 0 to 255, less 104, 117 and 123), ``'torchvision'`` for torchvision's own
            (RGB, ImageNet's mean and deviation). A checkpoint does not show which it needs.

    Raises:
        ValueError: ``normalisation`` is unknown. When the encoder is used, an image is too small for a stage.
        CheckpointError: The checkpoint belongs to another network.
    """

    def __init__(self, *, checkpoint: str | os.PathLike[str] | None, normalisation: str) -> None:
        one_of("normalisation", normalisation, _NORMALISATIONS)
        super().__init__(_STAGES, *_NORMALISATIONS[normalisation])
        self.bgr = normalisation == "caffe"
        self.features = squeezenet1_1(weights=None).features
        # The ReLU must not work in place, because it would overwrite the stage before it.
        self.features[1] = nn.ReLU()
        self.freeze(checkpoint)

    def least_side(self, pools: int) -> int:
        """See the base class."""
        # Windows of 3 with a stride of 2 and without padding. A pool rounds up, so 2 positions are enough for it.
        return 2 ** (pools + 1) + 1

    def normalised(self, image: Tensor) -> Tensor:
        """See the base class."""
        x = super().normalised(image)
        return x.flip(1) if self.bgr else x

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        return self.maps(image, ["fire9"])["fire9"].mean(dim=(2, 3))
