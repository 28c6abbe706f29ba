"""Learned blends of the raw and the enhanced image, for detectors that see both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ImageFusion(nn.Module):
    """A learned blend of the raw and the enhanced image. Each channel has one share, which starts at a half.

    Examples:
        >>> ImageFusion()(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)).flatten().tolist()
        [0.5, 0.5, 0.5]
    """

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, raw: Tensor, enhanced: Tensor) -> Tensor:
        """Blend two images ``(3, H, W)`` of levels."""
        return torch.lerp(raw, enhanced, self.logit.sigmoid())


class FeatureFusion(nn.Module):
    """A learned blend of the features of the raw and of the enhanced image. It has one share, which starts at a half.

    Examples:
        >>> FeatureFusion()([torch.zeros(1, 8, 2, 2)], [torch.ones(1, 8, 2, 2)])[0].mean().item()
        0.5
    """

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, raw: Any, enhanced: Any) -> Any:
        """Blend two results of ``extract_feat``: tensors, in lists, tuples or dicts of any depth."""
        if isinstance(enhanced, Tensor):
            return torch.lerp(raw, enhanced, self.logit.sigmoid().to(enhanced.dtype))
        if isinstance(enhanced, Mapping):
            return {key: self(raw[key], value) for key, value in enhanced.items()}
        if isinstance(enhanced, Sequence):
            blended = [self(*pair) for pair in zip(raw, enhanced, strict=True)]
            return blended if isinstance(enhanced, list) else tuple(blended)
        raise TypeError(f"features must be tensors, or lists, tuples or dicts of them, got {type(enhanced).__name__}")


FUSIONS = {"image": ImageFusion, "features": FeatureFusion}
