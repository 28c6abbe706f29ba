"""The two families of DSFD's backbones, which return maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.backbones import ResNet
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ...registry import MODELS
from ...safe_loading import SafeInit

_CONVOLUTIONS = (2, 2, 3, 3, 3)
_XAVIER = dict(type="Xavier", distribution="uniform", bias=0)


@MODELS.register_module()
class DSFDVGG(SafeInit, BaseModule):
    """VGG-16 with fc6 and fc7 as convolutions, which returns the maps relu3_3, relu4_3, relu5_3 and fc7.

    The third pooling rounds sizes up, and the others round them down, but never to zero. ``features`` has the numbering
    of torchvision and MMCV, so the ImageNet weights of ``init_cfg=dict(type='Pretrained',
    checkpoint='torchvision://vgg16')`` or ``'open-mmlab://vgg16_caffe'`` fit; fc6 and fc7 are not loaded from them.

    Args:
        widths: Numbers of channels of the five stages.
        fc_width: Number of channels of fc6 and fc7.
        fc6_dilation: Dilation and padding of the 3x3 convolution fc6; 3 is usual, and the public release has 1.
        init_cfg: Initialisation by MMEngine, applied after Kaiming (stages) and Xavier (fc6, fc7).

    Attributes:
        out_channels: Numbers of channels of the four maps.

    Raises:
        ValueError: ``widths`` does not have five entries.

    Examples:
        >>> import torch
        >>> backbone = DSFDVGG(widths=(4, 4, 8, 8, 8), fc_width=8)
        >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 8, 16, 16), (1, 8, 8, 8), (1, 8, 4, 4), (1, 8, 2, 2)]
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        fc_width: int = 1024,
        fc6_dilation: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if len(widths) != len(_CONVOLUTIONS):
            raise ValueError(f"widths must have the channels of five stages, got {tuple(widths)}")
        given = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
        override = [dict(_XAVIER, name=name) for name in ("fc6", "fc7")]
        super().__init__([dict(type="Kaiming", layer="Conv2d", override=override), *given])
        self.features = nn.Sequential(*_stages(widths))
        self.fc6 = nn.Conv2d(widths[-1], fc_width, 3, padding=fc6_dilation, dilation=fc6_dilation)
        self.fc7 = nn.Conv2d(fc_width, fc_width, 1)
        self.out_channels = (*widths[2:], fc_width)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the four maps at strides 4, 8, 16 and 32 from ``(N, 3, H, W)``."""
        taps: list[Tensor] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                taps.append(image)
                image = _halved(image, layer.ceil_mode)
            else:
                image = layer(image)
        return (*taps[2:], F.relu(self.fc7(F.relu(self.fc6(image)))))


@MODELS.register_module()
class DSFDResNet(SafeInit, ResNet):
    """MMDetection's ResNet, which returns the results of its four stages (C2 to C5).

    It has torchvision's keys, so ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet152')`` fits.

    Args:
        depth: Number of layers, 50, 101 or 152 in the published networks; 18 and 34 work too.
        kwargs: Other arguments of :class:`mmdet.models.ResNet`. Its batch normalisation keeps fixed statistics unless
            ``norm_eval`` is set to False, which training from scratch needs.

    Attributes:
        out_channels: Numbers of channels of the four maps.

    Examples:
        >>> DSFDResNet(depth=18).out_channels
        (64, 128, 256, 512)
    """

    def __init__(self, depth: int = 152, **kwargs: Any) -> None:
        super().__init__(depth, out_indices=(0, 1, 2, 3), **kwargs)
        self.out_channels = tuple(self.feat_dim // 2**k for k in (3, 2, 1, 0))


def _halved(maps: Tensor, ceil_mode: bool) -> Tensor:
    # A side of one pixel, which maps of small pictures may have, stays one pixel.
    return F.max_pool2d(maps, 2, ceil_mode=ceil_mode or min(maps.shape[-2:]) == 1)


def _stages(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for stage, (width, convolutions) in enumerate(zip(widths, _CONVOLUTIONS, strict=True)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
            before = width
        layers.append(nn.MaxPool2d(2, ceil_mode=stage == 2))
    return layers
