"""Several enhancers applied one after another."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .base import Capabilities, Enhancer, check_image_batch, pad_to_requirements
from .build import build_enhancer


@MODELS.register_module()
class Cascade(Enhancer):
    """Several enhancers as one: each takes the result of the one before it.

    ``Cascade(["PSENet", dict(type="Upscale", scale=4)])`` brightens, then enlarges, as the cascaded rows of CollaBA's
    Table 2 do. The result is bit-identical to enhancing a floating point image with one member after the other: each
    member pads its own input, and what passes from member to member is clamped to [0, 1]. The gradient passes that
    clamp unchanged, so that training reaches earlier members even where their result leaves the range.

    Args:
        enhancers: Names, configs or enhancers, as for :func:`llie_preproc.build_enhancer`. A named member loads its
            shipped weights, and a config may have a ``checkpoint`` of its own.

    Raises:
        TypeError: ``enhancers`` is not a sequence of names, configs or enhancers.
        ValueError: There are no members.
        KeyError: A member's name is not that of an enhancer.
        MissingWeightsError: No weights are shipped for a named member that has parameters.
        CheckpointError: A member's checkpoint does not fit, or is unsafe or damaged.

    Examples:
        >>> cascade = Cascade([dict(type="GammaCorrection", gamma=0.5), dict(type="Upscale", scale=2)])
        >>> enlarged = cascade(torch.full((1, 3, 4, 4), 0.25))
        >>> tuple(enlarged.shape), round(enlarged.mean().item(), 3)
        ((1, 3, 8, 8), 0.5)
    """

    made_of = "enhancers"

    def __init__(self, enhancers: Sequence[str | Mapping | Enhancer] = ("PSENet", "Upscale")) -> None:
        super().__init__()
        if isinstance(enhancers, str) or not isinstance(enhancers, Sequence):
            raise TypeError(f"enhancers must be a list, got {type(enhancers).__name__}")
        wrong = [e for e in enhancers if not (isinstance(e, str | os.PathLike | Mapping | Enhancer) or _is_network(e))]
        if wrong:
            raise TypeError(f"a member must be a name, a config or an enhancer, got {type(wrong[0]).__name__}")
        if not enhancers:
            raise ValueError("a cascade needs at least one enhancer")
        self.enhancers = nn.ModuleList(build_enhancer(e) for e in enhancers)
        self.capabilities = _of_all([e.capabilities for e in self.members])
        self.onnx_refusal = self._refusal([_padding_refusal(e) or e.onnx_refusal for e in self.members])
        self.compile_refusal = self._refusal([e.compile_refusal for e in self.members])

    @property
    def members(self) -> list[Enhancer]:
        """The enhancers in the order in which they are applied."""
        return [cast("Enhancer", e) for e in self.enhancers]

    def _refusal(self, reasons: Sequence[str | None]) -> str | None:
        named = zip(self.members, reasons, strict=True)
        return next((f"{type(member).__name__}: {reason}" for member, reason in named if reason), None)

    def forward(self, image: Tensor) -> Tensor:
        """Enhance ``(N, 3, H, W)`` RGB in [0, 1] to ``(N, 3, s*H, s*W)``, unclamped."""
        check_image_batch(image)
        first, *others = self.members
        image = _enhance(image, first)
        for member in others:
            image = _enhance(_bounded(image), member)
        return image


def _is_network(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, Enhancer)


def _enhance(image: Tensor, enhancer: Enhancer) -> Tensor:
    padded = pad_to_requirements(image, enhancer.capabilities).contiguous(memory_format=torch.channels_last)
    height, width = (enhancer.scale * n for n in image.shape[-2:])
    return enhancer(padded)[..., :height, :width].to(image.dtype)


def _bounded(image: Tensor) -> Tensor:
    """Clamp ``image`` to [0, 1], and let the gradient pass as if it were not clamped."""
    return image.detach().clamp(0, 1) + (image - image.detach())


def _of_all(members: Sequence[Capabilities]) -> Capabilities:
    """Capabilities of a chain of enhancers; each pads its own input, so the chain has no requirement on the size."""
    return Capabilities(
        scale=math.prod(m.scale for m in members),
        halo=_halo(members),
        differentiable=all(m.differentiable for m in members),
        precisions=tuple(p for p in members[0].precisions if all(p in m.precisions for m in members)),
    )


def _padding_refusal(member: Enhancer) -> str | None:
    needs = member.capabilities
    if needs.size_divisor == 1 and needs.min_size == 1:
        return None
    return "its input is padded inside the cascade, which a graph for any size cannot do; export the member alone"


def _halo(members: Sequence[Capabilities]) -> int | None:
    reach = 0
    for member in reversed(members):
        # A member with a size divisor is exact only on tiles that start at its multiples, which is not ensured here.
        if member.halo is None or member.size_divisor > 1:
            return None
        reach = math.ceil(reach / member.scale) + member.halo
    return reach
