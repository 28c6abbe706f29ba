"""Semi-LLIE: Semi-supervised Contrastive Learning with Mamba for Low-light Image Enhancement.

This is the Mamba-based enhancement network of the paper's Sec. III-C; its training is in ``training.methods``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import at_least, one_of, within
from ..ops.gradient import central_differences, gradient_map
from ..ops.scan import selective_scan_2d
from ..ops.scan.functional import DIRECTIONS
from ..ops.stochastic_depth import StochasticDepth
from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch

_MEAN = (0.4488, 0.4371, 0.4040)
_STEP_RANGE, _LEAST_STEP = (1e-3, 1e-1), 1e-4


# Both functions work in place when no gradient is needed: on the CPU, the operating system clears each new large tensor
# before its use, which takes as long as computing it.
def _silu(x: Tensor) -> Tensor:
    return F.silu(x, inplace=not torch.is_grad_enabled())


def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight if torch.is_grad_enabled() else x.mul_(weight)


class _IlluminationEstimator(nn.Sequential):
    """Illumination map from the image and its channel mean, by 1x1, 5x5 and 1x1 convolutions without activations."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(4, width, 1), nn.Conv2d(width, width, 5, padding=2, groups=4), nn.Conv2d(width, 3, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(torch.cat([image, image.mean(1, keepdim=True)], 1))


class _ChannelAttention(nn.Sequential):
    """Two 3x3 convolutions with fewer channels between them, then a weight for each channel of ``(N, C, H, W)``."""

    def __init__(self, width: int, compress: int, squeeze: int) -> None:
        narrow, least = max(1, width // compress), max(1, width // squeeze)
        super().__init__(nn.Conv2d(width, narrow, 3, padding=1), nn.GELU(), nn.Conv2d(narrow, width, 3, padding=1))
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, least, 1), nn.ReLU(), nn.Conv2d(least, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self[2](self[1](self[0](x)))
        return _multiply(x, self.attention(x))


class _SelectiveScan2d(nn.Module):
    """SS2D: four scans over ``(N, H, W, C)``, whose step, input and output weights are computed from each pixel."""

    def __init__(self, channels: int, states: int, rank: int) -> None:
        super().__init__()
        walks = len(DIRECTIONS)
        self.rank, self.states = rank, states
        self.project = nn.Parameter(torch.empty(walks, rank + 2 * states, channels))
        self.step_weight = nn.Parameter(torch.empty(walks, channels, rank))
        self.step_bias = nn.Parameter(torch.empty(walks, channels))
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(walks, channels, 1))
        self.D = nn.Parameter(torch.ones(walks, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as Mamba does: at an input of zero, the steps are log-uniform in 1e-3 to 1e-1."""
        nn.init.uniform_(self.project, -(self.project.shape[2] ** -0.5), self.project.shape[2] ** -0.5)
        nn.init.uniform_(self.step_weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = map(math.log, _STEP_RANGE)
        with torch.no_grad():
            step = torch.empty_like(self.step_bias).uniform_(low, high).exp().clamp(min=_LEAST_STEP)
            self.step_bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.project.flatten(0, 1)).unflatten(-1, self.project.shape[:2])
        step, B, C = projected.split([self.rank, self.states, self.states], -1)
        A = -self.A_log.float().exp()
        return selective_scan_2d(x, step, A, B, C, self.D, delta_bias=self.step_bias, delta_weight=self.step_weight)


class _StateSpaceModule(nn.Module):
    """MSSM (Eq. 3) or, with one kernel size, MambaIR's VSSM: local features, scan and gate of ``(N, H, W, C)``."""

    def __init__(self, width: int, expansion: int, states: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        inner = expansion * width
        self.expand = nn.Linear(width, 2 * inner, bias=False)
        self.local = nn.ModuleList(nn.Conv2d(inner, inner, k, padding=k // 2, groups=inner) for k in kernels)
        # Eq. 3 hands both branches to the scan, but the gate has the channels of one branch, so a layer merges them.
        self.merge = nn.Conv2d(len(kernels) * inner, inner, 1) if len(kernels) > 1 else None
        self.scan = _SelectiveScan2d(inner, states, math.ceil(width / 16))
        self.norm = nn.LayerNorm(inner)
        self.contract = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Each half is a product of its own, so that it is contiguous and the first one is freed earlier.
        to_features, to_gate = self.expand.weight.chunk(2)
        y = self.norm(self.scan(self._features(F.linear(x, to_features))))
        return self.contract(_multiply(y, _silu(F.linear(x, to_gate))))

    def _features(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        first, *others = (_silu(conv(x)).permute(0, 2, 3, 1) for conv in self.local)
        if self.merge is None:
            return first.contiguous()
        # This is the 1x1 convolution of the concatenated branches, computed without concatenating them.
        for_first, *weights = self.merge.weight.flatten(1).chunk(len(self.local), 1)
        y = F.linear(first, for_first, self.merge.bias)
        for branch, weight in zip(others, weights, strict=True):
            y = torch.addmm(y.flatten(0, 2), branch.flatten(0, 2), weight.t()).view_as(y)
        return y


class _StateSpaceBlock(nn.Module):
    """MSSB: a scan, then channel attention; each follows a norm and is added to a learned multiple of its input."""

    def __init__(self, module: _StateSpaceModule, attention: _ChannelAttention, width: int, drop_path: float) -> None:
        super().__init__()
        self.scan_norm, self.module = nn.LayerNorm(width), module
        self.attention_norm, self.attention = nn.LayerNorm(width), attention
        self.scan_skip, self.attention_skip = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(self.drop_path(self.module(self.scan_norm(x))), x, self.scan_skip)
        attended = self.attention(self.attention_norm(x).permute(0, 3, 1, 2))
        return torch.addcmul(attended.permute(0, 2, 3, 1), x, self.attention_skip)


class _StateSpaceGroup(nn.Module):
    """MSSG: blocks and a 3x3 convolution, added to the input of the group."""

    def __init__(self, blocks: list[_StateSpaceBlock], width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.blocks(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype).add_(x)


@MODELS.register_module()
class SemiLLIE(Enhancer):
    """The Mamba network of Semi-LLIE (Fig. 3): illumination estimation, then multi-scale state-space groups.

    It has 610,548 parameters, of which 18 are the frozen kernels of :meth:`gradient_map`. With ``multiscale=False``
    there are 465,652. The paper states this size (0.46 M), which is that of its ablation "Base + IE". Eq. 3
    concatenates the two local branches, which gives twice the channels of the gate; here a 1x1 convolution halves them.

    Args:
        width: Number C of channels of the features (Fig. 7).
        groups: Number of MSSGs (Fig. 7).
        blocks: Number of MSSBs in each group (Fig. 7).
        multiscale: Whether a depth-wise 5x5 convolution stands beside the 3x3 one (MSSM, Table III). Without it, the
            block is MambaIR's VSSM.
        illumination: Whether the network gets an estimated illumination map beside the image (Table III).
        states: State size N of the scan.
        expansion: Ratio of the channels of the scan to ``width``.
        drop_path: Stochastic depth of the last block, in training; the rate grows linearly from 0 at the first block.

    Raises:
        ValueError: A size is not a whole number of at least 1, a switch is not a ``bool``, ``width`` is not a multiple
            of 4 although illumination is estimated, or ``drop_path`` is outside [0, 1).

    Examples:
        >>> SemiLLIE(width=8).illumination(torch.rand(1, 3, 6, 8)).shape
        torch.Size([1, 3, 6, 8])
        >>> sum(parameter.numel() for parameter in SemiLLIE().parameters())
        610548
    """

    capabilities = Capabilities(halo=None, precisions=(torch.float32, torch.bfloat16))
    onnx_refusal = "the selective scan has no ONNX operator"
    mean: Tensor

    def __init__(
        self,
        width: int = 64,
        groups: int = 2,
        blocks: int = 2,
        multiscale: bool = True,
        illumination: bool = True,
        states: int = 16,
        expansion: int = 2,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "groups": groups, "blocks": blocks, "states": states, "expansion": expansion}
        for name, size in sizes.items():
            at_least(name, size, 1)
        for name, choice in {"multiscale": multiscale, "illumination": illumination}.items():
            one_of(name, choice, (True, False))
        if illumination and width % 4:
            raise ValueError(f"width must be a multiple of 4 (the illumination estimator's groups), got {width}")
        within("drop_path", drop_path, 0, below=1)
        kernels = (3, 5) if multiscale else (3,)
        last = max(1, groups * blocks - 1)
        rates = iter([drop_path * i / last for i in range(groups * blocks)])

        def block(rate: float) -> _StateSpaceBlock:
            module = _StateSpaceModule(width, expansion, states, kernels)
            return _StateSpaceBlock(module, _ChannelAttention(width, compress=3, squeeze=30), width, rate)

        self.estimator = _IlluminationEstimator(width) if illumination else None
        self.shallow = nn.Conv2d(6 if illumination else 3, width, 3, padding=1)
        self.embed_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.groups = nn.Sequential(
            *(_StateSpaceGroup([block(next(rates)) for _ in range(blocks)], width) for _ in range(groups))
        )
        self.body_end = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.gradient_kernel = nn.Parameter(central_differences(), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1] of any size; the result has the same shape and is not clamped."""
        check_image_batch(image)
        shifted = image - self.mean
        guided = shifted if self.estimator is None else torch.cat([shifted, self.estimator(shifted)], 1)
        shallow = self.shallow(guided)
        deep = self.norm(self.groups(self.embed_norm(shallow.permute(0, 2, 3, 1))))
        return self.tail(self.body_end(deep.permute(0, 3, 1, 2)).add_(shallow)) + image

    def illumination(self, image: Tensor) -> Tensor:
        """The illumination map of ``(N, 3, H, W)`` RGB in [0, 1]: it has the same shape and is not bounded.

        Raises:
            ValueError: The network was built with ``illumination=False``.
        """
        check_image_batch(image)
        if self.estimator is None:
            raise ValueError("this SemiLLIE was built with illumination=False, so it estimates no illumination map")
        return self.estimator(image - self.mean)

    def gradient_map(self, image: Tensor) -> Tensor:
        """``f_g`` of the gradient loss (Sec. III-F) for ``(N, C, H, W)``, by :func:`llie_preproc.ops.gradient_map`."""
        return gradient_map(image, self.gradient_kernel)
