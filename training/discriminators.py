"""Discriminators of the adversarial methods. They return one logit for each pixel or patch."""

from __future__ import annotations

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from llie_preproc.checks import at_least, one_of
from llie_preproc.enhancers.collaba import SpectralUNet
from llie_preproc.registry import MODELS


@MODELS.register_module()
class UNetDiscriminator(SpectralUNet):
    """CollaBA's global discriminator (section 3.3): a spectrally normalised U-Net with one logit for each pixel.

    >>> UNetDiscriminator()(torch.rand(1, 3, 16, 24)).shape
    torch.Size([1, 1, 16, 24])

    Args:
        width: Number of channels at full size; it doubles at each of three levels.

    Raises:
        ValueError: ``width`` is not a whole number of at least 1.
    """


# In smaller pictures a stage of the patch discriminator would have nothing to convolve.
_MIN_SIZE = 24
_NORMS = ("none", "batch")


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of all processes; PyTorch's SyncBatchNorm has no CPU kernel."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or get_world_size() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._over_all_ranks(x.float()).to(x.dtype)

    def _over_all_ranks(self, x: Tensor) -> Tensor:
        count = x.numel() // x.shape[1] * get_world_size()
        # Mean and variance take one reduction each: a sum of squares would lose a variance far below the squared mean.
        mean = all_reduce(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            for running, new in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
                running.lerp_(new, self.momentum)  # type: ignore[union-attr,arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


@MODELS.register_module()
class PatchDiscriminator(nn.Module):
    """The 70x70 PatchGAN discriminator (Isola et al., CVPR 2017) with one logit for each of the overlapping patches.

    Its 4x4 convolutions lead to 64, 128 and 256 channels with stride 2, then to 512 and 1 with stride 1; LeakyReLU of
    slope 0.2 stands between them. The weights start from normal(0, 0.02).

    >>> PatchDiscriminator(width=8)(torch.rand(1, 3, 64, 48)).shape
    torch.Size([1, 1, 6, 4])

    Args:
        norm: ``'none'`` is CollaBA's local discriminator, with 2,764,737 parameters. ``'batch'`` is Semi-LLIE's: it has
            batch normalisation, over the batches of all processes, in the three middle stages.
        width: Number of channels of the first stage; each of the next three stages doubles it.

    Raises:
        ValueError: ``norm`` is unknown, or ``width`` is below 1.
    """

    def __init__(self, norm: str = "none", width: int = 64) -> None:
        super().__init__()
        at_least("width", width, 1)
        one_of("norm", norm, _NORMS)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for stride in (2, 2, 1):
            normalise = norm == "batch"
            layers.append(nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1, bias=not normalise))
            width *= 2
            layers += [_BatchNorm2d(width)] if normalise else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))
        self.layers.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, 1, H // 8 - 2, W // 8 - 2)`` of ``(N, 3, H, W)`` RGB in [0, 1].

        Raises:
            ValueError: H or W is below 24.
        """
        if min(image.shape[-2:]) < _MIN_SIZE:
            raise ValueError(f"height and width must be at least {_MIN_SIZE}, got the shape {tuple(image.shape)}")
        return self.layers(image)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
