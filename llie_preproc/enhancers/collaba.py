"""CollaBA: collaborative brightening and amplification of low-light imagery via bi-level adversarial learning.

Gao et al., Pattern Recognition 2024. One network brightens the image and doubles or quadruples its size. A generative
modulation prior (GMP) predicts how much light each pixel lacks; its features modulate multi-scale residual blocks; the
multi-substrate merging up-scaler (MSMU) turns the result into the picture. The blocks in front of the up-scaler follow
the public code, which differs from the paper's text in details (docs/enhancers.md); the up-scaler follows Eq. 5, Eq. 6
and Fig. 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least, one_of
from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch

_DIVISOR = 8
_GROUPS = (1, 2, 4, 4)
# The channels of each resolution are split into up to four groups.
_WIDTH_DIVISOR = 16

_conv = partial(nn.Conv2d, bias=False)
# This works in place, because the layers in front of it do not need their results for the gradient.
_activate = partial(F.leaky_relu, negative_slope=0.2, inplace=True)
_bilinear = partial(F.interpolate, mode="bilinear", align_corners=False)
_bicubic = partial(F.interpolate, mode="bicubic", align_corners=False)


def _check_divisible(image: Tensor) -> None:
    if image.shape[-2] % _DIVISOR or image.shape[-1] % _DIVISOR:
        raise ValueError(f"height and width must be multiples of {_DIVISOR}, got the shape {tuple(image.shape)}")


class SpectralConv2d(nn.Conv2d):
    """A bias-free convolution whose weight is divided by its largest singular value (Miyato et al., ICLR 2018).

    Each forward in training mode refines the estimate of the singular vector by one power iteration; evaluation
    leaves it as it is. Unlike a module with torch's own spectral norm, it can be pickled and deep-copied at any time.
    """

    u: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=1, bias=False)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        # A weight on the meta device has no values to estimate from.
        if not self.weight.is_meta:
            self._estimate()

    @torch.no_grad()
    def _estimate(self, iterations: int = 15) -> None:
        rows = self.weight.flatten(1)
        with torch.autocast(rows.device.type, enabled=False):
            for _ in range(iterations):
                self.u.copy_(F.normalize(rows.mv(F.normalize(rows.T.mv(self.u), dim=0)), dim=0))

    # The next two methods use products and sums, because matrix products would lose precision under autocast.
    def _right(self) -> Tensor:
        """Right singular vector that belongs to ``u``, the estimate of the left one."""
        return F.normalize((self.weight.flatten(1) * self.u[:, None]).sum(0), dim=0)

    @torch.no_grad()
    def _refine(self) -> None:
        self.u.copy_(F.normalize((self.weight.flatten(1) * self._right()).sum(1), dim=0))

    def _singular_value(self) -> Tensor:
        rows = self.weight.flatten(1)
        if self.training:
            self._refine()
        with torch.no_grad():
            right = self._right()
            # This is a new tensor, because the next forward may overwrite the buffer before this pass goes backward.
            direction = torch.outer(self.u, right)
        return (rows * direction).sum()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self._singular_value(), None)


class SpectralUNet(nn.Module):
    """The spectrally normalised U-Net of CollaBA's prior and of its global discriminator: one logit for each pixel.

    It has three stride-2 levels, bilinear up-sampling, additive skips, and 4,376,897 parameters.

    Args:
        width: Number of channels at full size; it doubles at each level.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        at_least("width", width, 1)
        widths = (width, 2 * width, 4 * width)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.downs = nn.ModuleList(SpectralConv2d(n, 2 * n, 4, stride=2) for n in widths)
        self.ups = nn.ModuleList(SpectralConv2d(2 * n, n, 3) for n in reversed(widths))
        self.refine = nn.ModuleList(SpectralConv2d(width, width, 3) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, 1, H, W)`` of ``(N, 3, H, W)`` RGB in [0, 1].

        Raises:
            ValueError: H or W is not a multiple of 8.
        """
        _check_divisible(image)
        x = _activate(self.first(image))
        skips = []
        for down in self.downs:
            skips.append(x)
            x = _activate(down(x))
        for up in self.ups:
            x = _activate(up(_bilinear(x, scale_factor=2))) + skips.pop()
        for conv in self.refine:
            x = _activate(conv(x))
        return self.last(x)


class _Selection(nn.Module):
    """Selective kernel feature fusion (SKFF): the weights with which branches are summed, one for each channel."""

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.squeeze = _conv(channels, channels // 8, 1)
        self.expand = nn.ModuleList(_conv(channels // 8, channels, 1) for _ in range(branches))

    def forward(self, branches: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Weights ``(N, C, 1, 1)`` of each branch, which sum to one.

        The weights depend only on the means of the branches, so the branches may differ in size.
        """
        pooled = torch.stack([branch.mean(dim=(2, 3), keepdim=True) for branch in branches]).sum(0)
        squeezed = _activate(self.squeeze(pooled))
        return torch.stack([expand(squeezed) for expand in self.expand]).softmax(dim=0).unbind()


def _fuse(selection: _Selection, first: Tensor, second: Tensor) -> Tensor:
    by_first, by_second = selection((first, second))
    return first * by_first + second * by_second


class _ContextBlock(nn.Module):
    """Residual context block (RCB): two convolutions, plus a vector that attention pools from the whole image."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 3, padding=1, groups=groups)
        self.conv2 = _conv(channels, channels, 3, padding=1, groups=groups)
        self.mask = _conv(channels, 1, 1)
        self.context1 = _conv(channels, channels, 1)
        self.context2 = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(_activate(self.conv1(x)))
        mask = self.mask(y).flatten(2).softmax(dim=2)
        context = (y.flatten(2) @ mask.transpose(1, 2)).unsqueeze(3)
        return _activate(y + self.context2(_activate(self.context1(context)))) + x


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(2), _conv(in_channels, out_channels, 1))


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(in_channels, out_channels, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


class _MultiScaleBlock(nn.Module):
    """Multi-scale residual block (MRB): three resolutions that exchange features twice, with shared context blocks."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        widths = top, middle, bottom = width, 3 * width // 2, 9 * width // 4
        self.down_middle = _down(top, middle)
        self.down_bottom = nn.Sequential(_down(top, middle), _down(middle, bottom))
        self.blocks = nn.ModuleList(_ContextBlock(channels, groups) for channels in widths)
        self.up_middle = nn.ModuleList(_up(bottom, middle) for _ in range(2))
        self.up_top = nn.ModuleList(_up(middle, top) for _ in range(2))
        self.select_middle = _Selection(middle, 2)
        self.select_top = _Selection(top, 2)
        self.merge = _conv(top, top, 1)

    def forward(self, x: Tensor) -> Tensor:
        top, middle, bottom = x, self.down_middle(x), self.down_bottom(x)
        for up_middle, up_top in zip(self.up_middle, self.up_top, strict=True):
            streams = zip(self.blocks, (top, middle, bottom), strict=True)
            top, middle, bottom = (block(stream) for block, stream in streams)
            middle = _fuse(self.select_middle, middle, up_middle(bottom))
            top = _fuse(self.select_top, top, up_top(middle))
        return self.merge(top) + x


class _FeatureTransform(nn.Module):
    """Conditional feature transform (CFT): scale and shift by the prior's features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = (
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.LeakyReLU(0.1, True), nn.Conv2d(channels, channels, 1))
            for _ in range(2)
        )

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        return x * (self.scale(prior) + 1) + self.shift(prior)


class _Concatenation(nn.Module):
    """Concatenation of the prior's features and a 1x1 convolution: the alternative that Table 5 compares."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = _conv(2 * channels, channels, 1)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        return self.merge(torch.cat([x, prior], dim=1))


class _Unmodulated(nn.Module):
    """Ignores the prior."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, prior: Tensor | None) -> Tensor:
        return x


_MODULATIONS: dict[str | None, type[nn.Module]] = {
    "cft": _FeatureTransform,
    "concat": _Concatenation,
    None: _Unmodulated,
}


class _Group(nn.Module):
    """Two modulated multi-scale blocks and a convolution, residual."""

    def __init__(self, width: int, groups: int, modulation: str | None) -> None:
        super().__init__()
        self.modulate = nn.ModuleList(_MODULATIONS[modulation](width) for _ in range(2))
        self.blocks = nn.ModuleList(_MultiScaleBlock(width, groups) for _ in range(2))
        self.conv = _conv(width, width, 3, padding=1)

    def forward(self, x: Tensor, prior: Tensor | None) -> Tensor:
        y = x
        for modulate, block in zip(self.modulate, self.blocks, strict=True):
            y = block(modulate(y, prior))
        return self.conv(y) + x


class _MergingUpscaler(nn.Module):
    """Multi-substrate merging up-scaler (MSMU): turns features into a picture of four times their height and width.

    Sub-pixel convolutions make features of size 1, 2 and 4 (Eq. 5). For each size, the features of the others are
    enlarged bilinearly or reduced by strided convolutions, and are added with the weights of selective fusion (Eq. 6).
    In the end, all sizes are enlarged to size 4 bicubically, and one 1x1 convolution merges them into the picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shuffles = nn.ModuleList(nn.Conv2d(channels, 4 * channels, 3, padding=1) for _ in range(2))
        self.downs = nn.ModuleList(_conv(channels, channels, 2, stride=2) for _ in range(2))
        self.selections = nn.ModuleList(_Selection(channels, 3) for _ in range(3))
        self.merge = _conv(3 * channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [x]
        for shuffle in self.shuffles:
            levels.append(F.pixel_shuffle(_activate(shuffle(levels[-1])), 2))
        picture = self._gather(levels, 2)
        for target, down in zip((1, 0), self.downs, strict=True):
            # Levels above the target are halved; a level two steps above it passes through both convolutions.
            levels[target + 1 :] = [down(level) for level in levels[target + 1 :]]
            picture = picture + _bicubic(self._gather(levels, target), scale_factor=4 // 2**target)
        return picture

    def _gather(self, levels: list[Tensor], target: int) -> Tensor:
        """Fuse the features of size ``2^target`` and apply their part of the last convolution: ``(N, 3, h, w)``.

        The convolution comes before the enlargement, so that only three channels are enlarged instead of all. The
        result is the same: interpolation does not change the means, from which the fusion weights are computed, and a
        1x1 convolution may come before or after it.
        """
        merge = self.merge.weight.chunk(3, dim=1)[target].flatten(1)
        parts = []
        for exponent, (level, weight) in enumerate(zip(levels, self.selections[target](levels), strict=True)):
            part = (merge * weight.flatten(1).unsqueeze(1)) @ level.flatten(2)
            part = part.unflatten(2, level.shape[-2:]).to(merge.dtype)
            parts.append(_bilinear(part, scale_factor=2 ** (target - exponent)) if exponent < target else part)
        return torch.stack(parts).sum(0)


class _InterpolatingUpscaler(nn.Module):
    """Interpolation and a convolution, twice; the public code has ``mode='nearest'``."""

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.last = _conv(channels, 3, 3, padding=1)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = _activate(conv(F.interpolate(x, scale_factor=2, mode=self.mode)))
        return self.last(x)


_UPSCALERS: dict[str, Callable[[int], nn.Module]] = {
    "msmu": _MergingUpscaler,
    "bilinear": partial(_InterpolatingUpscaler, mode="bilinear"),
    "nearest": partial(_InterpolatingUpscaler, mode="nearest"),
}


@MODELS.register_module()
class CollaBA(Enhancer):
    """Brightens and enlarges in one network.

    It has 11.0 M parameters, and takes 21.6 (``scale=2``) or 66.7 (``scale=4``) GMACs for a 128x128 image.

    Args:
        scale: Factor of the enlargement, 2 or 4.
        modulation: Way in which the generative modulation prior acts on the features. ``'cft'`` scales and shifts them,
            ``'concat'`` concatenates the prior's features to them (No. 3 of Table 5), and None leaves out the prior
            (No. 2).
        upscaler: Kind of up-scaler. ``'msmu'`` is that of the paper, ``'bilinear'`` interpolates and convolves (No. 4
            of Table 5), and ``'nearest'`` does so with nearest neighbours, as the public code does.
        width: Number of channels of the features at the highest of the three resolutions, a multiple of 16. The lower
            resolutions have 1.5 and 2.25 times as many. 80 is that of the public code.
        prior_width: Number of channels of the prior's first features, 64 in the public code.

    Raises:
        ValueError: ``scale``, ``modulation`` or ``upscaler`` is none of these, ``width`` is not a positive multiple of
            16, or ``prior_width`` is below 1.

    Examples:
        >>> network = CollaBA(scale=2).eval()
        >>> image = torch.rand(1, 3, 8, 16)
        >>> with torch.no_grad():
        ...     tuple(network(image).shape), tuple(network.attention(image).shape)
        ((1, 3, 16, 32), (1, 1, 8, 16))
    """

    def __init__(
        self,
        scale: int = 2,
        modulation: str | None = "cft",
        upscaler: str = "msmu",
        width: int = 80,
        prior_width: int = 64,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("scale", scale, (2, 4)),
            ("modulation", modulation, tuple(_MODULATIONS)),
            ("upscaler", upscaler, tuple(_UPSCALERS)),
        ):
            one_of(name, value, allowed)
        at_least("prior_width", prior_width, 1)
        at_least("width", width, _WIDTH_DIVISOR)
        if width % _WIDTH_DIVISOR:
            raise ValueError(f"width must be a multiple of {_WIDTH_DIVISOR}, got {width}")
        self.capabilities = Capabilities(
            scale=scale, size_divisor=_DIVISOR, halo=None, precisions=(torch.float32, torch.bfloat16)
        )
        # The up-scaler always enlarges by four, so the network for twofold enlargement works at half the size.
        self.unshuffle = 4 // scale
        self.prior = SpectralUNet(prior_width) if modulation is not None else None
        self.condition = _condition(self.unshuffle**2, width) if modulation is not None else None
        self.first = _conv(3 * self.unshuffle**2, width, 3, padding=1)
        self.groups = nn.ModuleList(_Group(width, groups, modulation) for groups in _GROUPS)
        self.upscaler = _UPSCALERS[upscaler](width)

    def attention(self, image: Tensor) -> Tensor:
        """Illumination attention ``(N, 1, H, W)`` in [0, 1] that the prior predicts: how much light is lacking (Eq. 4).

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], H and W multiples of 8.

        Raises:
            ValueError: The network was built without the prior, or the shape does not fit.
        """
        check_image_batch(image)
        if self.prior is None:
            raise ValueError("CollaBA was built with modulation=None, so it has no prior that predicts an attention")
        return self.prior(image).sigmoid()

    def enhance_with_attention(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Results of :meth:`forward` and :meth:`attention`, in hardly more time than :meth:`forward` alone takes."""
        attention = self.attention(image)
        return self._restore(image, attention), attention

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1], H and W multiples of 8, to ``(N, 3, s*H, s*W)``, unclamped."""
        check_image_batch(image)
        _check_divisible(image)
        return self._restore(image, self.attention(image) if self.prior is not None else None)

    def _restore(self, image: Tensor, attention: Tensor | None) -> Tensor:
        x = self.first(F.pixel_unshuffle(image, self.unshuffle))
        prior = None
        if self.condition is not None and attention is not None:
            prior = self.condition(F.pixel_unshuffle(attention, self.unshuffle))
        for group in self.groups:
            x = group(x, prior)
        return self.upscaler(x)


def _condition(in_channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
    for _ in range(4):
        layers += [nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(width, width, 1)]
    return nn.Sequential(*layers)
