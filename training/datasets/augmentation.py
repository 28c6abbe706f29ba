"""The strong augmentation of consistency training: it changes the colours and the sharpness of one picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import ColorJitter, RandomApply, RandomGrayscale
from torchvision.transforms.v2 import functional as F

from llie_preproc.registry import TRANSFORMS

_KERNELS = (1, 3, 5)
_SIGMA = (0.1, 2.0)


@TRANSFORMS.register_module()
class StrongAugmentation:
    """The strong augmentation for the student of Semi-LLIE (Section III-D; the constants are those of the public code).

    A picture goes through three steps, in this order; all random numbers are uniform and the geometry stays as it is:

    * with probability 0.8, brightness, contrast and saturation are each multiplied by a number from [0.5, 1.5], and the
      hue is turned by [-0.25, 0.25] of a circle;
    * with probability 0.2, the picture becomes grey;
    * with probability 0.5, a Gaussian blurs it, with a kernel size of 1, 3 or 5 and a deviation from [0.1, 2].

    With all three off (the baseline of Table VI) a picture comes back unchanged.

    >>> picture = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
    >>> StrongAugmentation()(picture).shape
    torch.Size([3, 8, 8])
    >>> torch.equal(StrongAugmentation(jitter=False, grayscale=False, blur=False)(picture), picture)
    True

    Args:
        jitter: Whether to change the colours.
        grayscale: Whether to turn pictures grey.
        blur: Whether to blur.
    """

    def __init__(self, jitter: bool = True, grayscale: bool = True, blur: bool = True) -> None:
        self.steps = [
            step
            for step, chosen in (
                (RandomApply([ColorJitter(0.5, 0.5, 0.5, 0.25)], p=0.8), jitter),
                (RandomGrayscale(p=0.2), grayscale),
                (RandomApply([_random_blur], p=0.5), blur),
            )
            if chosen
        ]

    def __call__(self, picture: Tensor) -> Tensor:
        """Augment a picture ``(3, H, W)`` uint8 RGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: ``picture`` has another type or shape.
        """
        require_picture(picture, self)
        for step in self.steps:
            picture = step(picture)
        return picture


def require_picture(picture: object, user: object) -> None:
    """Raise ``TypeError`` unless ``picture`` is ``(3, H, W)`` uint8; the message names the class of ``user``."""
    if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.shape[:-2] != (3,):
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else type(picture).__name__
        raise TypeError(f"{type(user).__name__} takes a picture, (3, H, W) uint8, got {got}")


def _random_blur(picture: Tensor) -> Tensor:
    size = _KERNELS[int(torch.randint(len(_KERNELS), ()))]
    sigma = float(torch.empty(()).uniform_(*_SIGMA))
    return F.gaussian_blur(picture, [size, size], [sigma, sigma])
