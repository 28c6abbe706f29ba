"""DSFD's neck between backbone and heads: two more levels, the up-path and the feature enhance module (FEM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ...registry import MODELS
from ...safe_loading import SafeInit

_XAVIER = dict(type="Xavier", layer="Conv2d", distribution="uniform", bias=0)
_EPS = 1e-10


@MODELS.register_module()
class DSFDNeck(SafeInit, BaseModule):
    """Original and enhanced maps of six levels, with strides 4 to 128 (Li et al., 2019, Section 3.2).

    The defaults are the paper's form on VGG-16. The public release has ``fpn_levels=3``, ``fpn_relu=False``,
    ``fem='tree'`` and ``align_corners=True``; with a ResNet also ``extra_norm_cfg=dict(type='BN')`` and
    ``extra_channels=((512, 512), (128, 256))``, and with VGG-16 ``l2_norm='fused'``.

    Args:
        in_channels: Numbers of channels of the backbone's four maps.
        extra_channels: Numbers of channels of levels 5 and 6, each for a 1x1 convolution and a 3x3 one of stride 2.
        extra_norm_cfg: Normalisation after the extra convolutions, as in MMCV; None for no normalisation.
        l2_norm: Place where levels 1 to 3 are normalised to a learnt length: ``'outputs'`` (the original maps and the
            enhanced ones, each with its own scales), ``'fused'`` (between up-path and enhancement) or None (nowhere,
            for ResNets).
        l2_norm_scales: Initial lengths for levels 1 to 3.
        fpn_levels: Number of levels that the up-path fuses: 5 starts at the very top, 3 leaves levels 4 to 6 as they
            are.
        fpn_relu: Whether a ReLU follows every top-down convolution and every product, and a 1x1 convolution comes
            first on the top map.
        fem: Form of the FEM: ``'parallel'`` (three branches of 1, 2 and 3 convolutions of dilation 3, together as wide
            as the input) or ``'tree'`` (three branches of dilation 1 and 2, two of which share their first convolution,
            with ``2 * fem_width`` channels).
        fem_width: Width of the tree.
        align_corners: Option of the bilinear enlargement in the up-path.
        init_cfg: Initialisation by MMEngine; Xavier by default.

    Attributes:
        channels: Numbers of channels of the six original maps.
        out_channels: Numbers of channels of the six enhanced maps.

    Raises:
        ValueError: An argument has a value that is not listed.

    Examples:
        >>> neck = DSFDNeck(in_channels=(8, 8, 8, 8), extra_channels=((4, 8), (4, 8)))
        >>> original, enhanced = neck([torch.rand(1, 8, side, side) for side in (32, 16, 8, 4)])
        >>> [tuple(level.shape[1:]) for level in enhanced]
        [(8, 32, 32), (8, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2), (8, 1, 1)]
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 512, 1024),
        extra_channels: Sequence[Sequence[int]] = ((256, 512), (128, 256)),
        extra_norm_cfg: dict | None = None,
        l2_norm: str | None = "outputs",
        l2_norm_scales: Sequence[float] = (10.0, 8.0, 5.0),
        fpn_levels: int = 5,
        fpn_relu: bool = True,
        fem: str = "parallel",
        fem_width: int = 256,
        align_corners: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(_XAVIER))
        if len(in_channels) != 4 or len(extra_channels) != 2:
            raise ValueError(
                "in_channels must be of four maps and extra_channels of two levels, "
                f"got {in_channels} and {extra_channels}"
            )
        if l2_norm not in ("outputs", "fused", None) or fem not in ("parallel", "tree"):
            raise ValueError(
                f"l2_norm must be 'outputs', 'fused' or None, and fem 'parallel' or 'tree', got {l2_norm!r} and {fem!r}"
            )
        if not 1 <= fpn_levels <= 5:
            raise ValueError(f"fpn_levels must be 1 to 5, got {fpn_levels}")
        self.channels = (*in_channels, *(wide for _, wide in extra_channels))
        self.extras = nn.ModuleList(
            _extra_level(before, narrow, wide, extra_norm_cfg)
            for before, (narrow, wide) in zip(self.channels[3:], extra_channels, strict=False)
        )
        self.up_path = UpPath(self.channels, fpn_levels, fpn_relu, align_corners)
        enhancers = [ParallelFEM(c) if fem == "parallel" else TreeFEM(c, fem_width) for c in self.channels]
        self.fem = nn.ModuleList(enhancers)
        self.out_channels = tuple(e.out_channels for e in enhancers)

        def lengths(place: str, channels: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(map(LearntLength, channels, l2_norm_scales) if l2_norm == place else ())

        self.norm_original = lengths("outputs", self.channels)
        self.norm_fused = lengths("fused", self.channels)
        self.norm_enhanced = lengths("outputs", self.out_channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Turn the backbone's four maps into six original maps (first shot) and six enhanced ones (second shot).

        Under float16 autocast it computes in float32, because products of up to six maps leave float16's range.
        """
        device = maps[0].device.type
        if maps[0].dtype == torch.float16 and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._maps([m.float() for m in maps])
        return self._maps(maps)

    def _maps(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        original = list(maps)
        for extra in self.extras:
            original.append(extra(original[-1]))
        fused = _normalised(self.norm_fused, self.up_path(original))
        enhanced = [enhance(fused_map) for enhance, fused_map in zip(self.fem, fused, strict=True)]
        return tuple(_normalised(self.norm_original, original)), tuple(_normalised(self.norm_enhanced, enhanced))


class UpPath(nn.Module):
    """Fusion from the top down: each map is multiplied by the enlarged map above it.

    It computes ``t[l] = relu(up(relu(D[l] t[l+1])) * L[l] c[l])`` with 1x1 convolutions D (to the lower level's width)
    and L, starting from ``t[levels] = relu(T c[levels])``. Without ``relu`` there is no ReLU and no T. Maps above
    ``levels`` stay as they are.
    """

    def __init__(self, channels: Sequence[int], levels: int, relu: bool, align_corners: bool) -> None:
        super().__init__()
        self.levels, self.align_corners = levels, align_corners
        self.activation = nn.ReLU() if relu else nn.Identity()
        self.top = nn.Conv2d(channels[levels], channels[levels], 1) if relu else nn.Identity()
        self.down = nn.ModuleList(nn.Conv2d(channels[k + 1], channels[k], 1) for k in range(levels))
        self.lateral = nn.ModuleList(nn.Conv2d(channels[k], channels[k], 1) for k in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the maps; the results have the same number and shapes."""
        fused = list(maps)
        if not isinstance(self.top, nn.Identity):
            fused[self.levels] = self.activation(self.top(maps[self.levels]))
        for k in reversed(range(self.levels)):
            upper = self.activation(self.down[k](fused[k + 1]))
            upper = F.interpolate(upper, maps[k].shape[-2:], mode="bilinear", align_corners=self.align_corners)
            fused[k] = self.activation(upper * self.lateral[k](maps[k]))
        return fused


class ParallelFEM(nn.Module):
    """Three branches of 1, 2 and 3 convolutions (3x3, dilation 3), with ReLU between them and on the joined maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        third = channels // 3
        widths = (third, third, channels - 2 * third)
        self.branches = nn.ModuleList(_dilated_branch(channels, w, k + 1) for k, w in enumerate(widths))
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Enhance ``(N, C, H, W)``; the result has the same shape."""
        return torch.cat([branch(x) for branch in self.branches], dim=1).relu()


class TreeFEM(nn.Module):
    """The release's module: three branches of 3x3 convolutions of dilation 1 and 2; two share their first one."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.near = nn.Conv2d(channels, width, 3, padding=1)
        self.shared = nn.Conv2d(channels, width, 3, padding=2, dilation=2)
        self.middle = nn.Conv2d(width, half, 3, padding=1)
        self.far = nn.Sequential(
            nn.Conv2d(width, half, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
        )
        self.out_channels = width + 2 * half

    def forward(self, x: Tensor) -> Tensor:
        """Enhance ``(N, C, H, W)`` to ``(N, 2 * width, H, W)``."""
        shared = self.shared(x).relu()
        return torch.cat([self.near(x), self.middle(shared), self.far(shared)], dim=1).relu()


class LearntLength(nn.Module):
    """Normalisation of every position's channels to a learnt length, as in SSD, with eps 1e-10 added after the root.

    A position of zeros stays zero and has a finite gradient, although the gradient of the root is infinite there.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``; the result has the same shape and dtype, and is computed in at least float32."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        # Zeros are divided by 1, because dividing by eps would make the gradient 1e10 times too large.
        length = torch.where(length > 0, length + _EPS, 1.0)
        return (wide / length * self.weight[:, None, None]).to(x.dtype)


def _normalised(norms: nn.ModuleList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Apply the norms to the first maps, one to each, and return the other maps as they are."""
    return [norm(m) for norm, m in zip(norms, maps, strict=False)] + list(maps[len(norms) :])


def _dilated_branch(channels: int, width: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=3, dilation=3)]
    for _ in range(convolutions - 1):
        layers += [nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=3, dilation=3)]
    return nn.Sequential(*layers)


def _extra_level(before: int, narrow: int, wide: int, norm_cfg: dict | None) -> nn.Sequential:
    first, second = nn.Conv2d(before, narrow, 1), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
    layers: list[nn.Module] = []
    for convolution in (first, second):
        norm = [build_norm_layer(norm_cfg, convolution.out_channels)[1]] if norm_cfg else []
        layers += [convolution, *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
