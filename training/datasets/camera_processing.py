"""What happens to a picture after the sensor: digital gain, smoothing against noise, and JPEG compression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from llie_preproc.checks import at_least, each, rising, within
from llie_preproc.registry import TRANSFORMS

from .augmentation import require_picture
from .draws import uniform


@TRANSFORMS.register_module()
class CameraProcessing:
    """Brightens and smooths what a sensor has read, as cameras do at night.

    Of two pictures with the same light on the sensor, the one with a gain is brighter and its noise more visible. Both
    kinds are among real night pictures.

    >>> _ = torch.manual_seed(0)
    >>> bright = CameraProcessing(share=1.0, gain=(1.0, 1.0), blur_share=0.0)(torch.full((3, 4, 4), 0.1), stops=-3.0)
    >>> round(bright.mean().item(), 3)
    0.2

    Args:
        share: Share of the pictures that are processed.
        gain: Range of the gain in stops, drawn uniformly; a picture gets no more than it lost by its exposure.
        blur_share: Share of the processed pictures that are smoothed.
        blur: Range of the deviation of the Gaussian, in pixels, drawn uniformly.

    Raises:
        ValueError: A share is outside [0, 1], or a range is not two rising numbers, ``gain`` from 0 and ``blur`` above
            0.
    """

    def __init__(
        self,
        share: float = 0.3,
        gain: Sequence[float] = (0.0, 3.0),
        blur_share: float = 0.5,
        blur: Sequence[float] = (0.4, 1.2),
    ) -> None:
        within("share", share, 0, 1)
        within("blur_share", blur_share, 0, 1)
        rising("gain", gain, least=0)
        rising("blur", blur, above=0)
        self.share, self.gain, self.blur_share, self.blur = share, gain, blur_share, blur

    def __call__(self, light: Tensor, stops: float) -> Tensor:
        """Process linear light ``(3, H, W)``, which may leave [0, 1].

        Args:
            light: Values that a sensor has read.
            stops: Exposure of the picture in EV, below 0 for a dark one.
        """
        if torch.rand(()) >= self.share:
            return light
        light = light * 2 ** min(uniform(self.gain), max(0.0, -stops))
        if torch.rand(()) >= self.blur_share:
            return light
        sigma = uniform(self.blur)
        # The picture is mirrored at its edges, which is possible over less than its own size.
        size = 2 * min(math.ceil(3 * sigma), *(edge - 1 for edge in light.shape[-2:])) + 1
        return F.gaussian_blur(light, [size, size], [sigma, sigma])


@TRANSFORMS.register_module()
class JPEGCompression:
    """Compresses a share of the pictures as JPEG and decodes them again.

    >>> picture = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
    >>> JPEGCompression(share=1.0)(picture).shape
    torch.Size([3, 16, 16])

    Args:
        quality: Range of the JPEG quality, whole numbers from 1 to 100, drawn uniformly.
        share: Share of the pictures that are compressed.

    Raises:
        ValueError: ``quality`` is not two rising whole numbers from 1 to 100, or ``share`` is outside [0, 1].
    """

    def __init__(self, quality: Sequence[int] = (50, 95), share: float = 0.3) -> None:
        each("quality", quality, at_least, 1)
        rising("quality", quality, least=1, most=100)
        within("share", share, 0, 1)
        self.quality, self.share = (int(quality[0]), int(quality[1])), share

    def __call__(self, picture: Tensor) -> Tensor:
        """Compress a picture ``(3, H, W)`` uint8 RGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: The argument is no such picture.
        """
        require_picture(picture, self)
        if torch.rand(()) >= self.share:
            return picture
        low, high = self.quality
        return F.jpeg(picture, int(torch.randint(low, high + 1, ())))
