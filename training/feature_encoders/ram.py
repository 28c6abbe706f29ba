"""The image encoder of the Recognize Anything Model, a Swin transformer (Zhang et al., CVPR 2024 workshops)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from llie_preproc.checks import at_least, each
from llie_preproc.errors import require
from llie_preproc.registry import MODELS

from .base import FeatureEncoder

_PATCH = 4
_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.")


@MODELS.register_module()
class RAMEncoder(FeatureEncoder):
    """RAM's Swin-L and its projection. Pictures are resized to 384x384 (bilinear).

    The stages ``s1`` to ``s4`` are the tokens at the end of each stage, before the next stage merges patches:
    ``(N, 192, 96, 96)``, ``(N, 384, 48, 48)``, ``(N, 768, 24, 24)`` and ``(N, 1536, 12, 12)``. The vector has 512
    values. It is RAM's token 0: the mean of the last stage's tokens after the norm, projected into the space of the
    tags. Pictures are normalised by the mean and deviation of ImageNet.

    The Swin transformer has 195,198,516 parameters, the projection has another 786,944.

    >>> import torch
    >>> encoder = RAMEncoder(
    ...     checkpoint=None, image_size=32, window_size=2, embed_dim=8, depths=(1, 1), num_heads=(2, 4), projection=16
    ... )
    >>> [features.shape for features in encoder(torch.rand(1, 3, 40, 50), ["s1", "s2"])]
    [torch.Size([1, 8, 8, 8]), torch.Size([1, 16, 4, 4])]

    Args:
        checkpoint: Path of ``ram_swin_large_14m.pth``. Only the image encoder and ``image_proj`` are read from it. None
            gives random weights, for tests.
        image_size: Side of the network's input; RAM was published for 384 (window 12) and 224 (window 7).
        window_size: Side of an attention window, in patches.
        embed_dim: Number of channels of the first stage; each further stage doubles it.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads of each stage.
        projection: Length of the vector.

    Raises:
        ValueError: ``depths`` and ``num_heads`` differ in length, the windows do not tile the stages, the heads do not
            divide the channels, or a size is below 1.
        CheckpointError: The checkpoint belongs to another network or has other sizes.
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        checkpoint: str | os.PathLike[str] | None,
        image_size: int = 384,
        window_size: int = 12,
        embed_dim: int = 192,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (6, 12, 24, 48),
        projection: int = 512,
    ) -> None:
        at_least("projection", projection, 1)
        _check_sizes(image_size, window_size, embed_dim, depths, num_heads)
        require("timm", "the RAM encoder")
        from timm.models.swin_transformer import SwinTransformer

        super().__init__([f"s{i}" for i in range(1, len(depths) + 1)])
        self.image_size = image_size
        self.trunk = SwinTransformer(
            img_size=image_size,
            patch_size=_PATCH,
            window_size=window_size,
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            num_classes=0,
            drop_path_rate=0.0,
        )
        self.image_proj = nn.Linear(self.trunk.num_features, projection)
        self.freeze(checkpoint)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        indices = [self.stages.index(name) for name in stages]
        found: Any = self.trunk.forward_intermediates(
            self._input(image), indices, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(stages, found, strict=True))

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        tokens = self.trunk.forward_features(self._input(image))
        return self.image_proj(tokens.mean(dim=(1, 2)))

    def renamed(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See the base class.

        In the file, with Microsoft's names, patches are merged at the end of a stage; in timm they are merged at the
        beginning of the next one.
        """
        renamed = {}
        for key, value in state.items():
            if key.startswith("visual_encoder."):
                name = _DOWNSAMPLE.sub(_next_stage, key.removeprefix("visual_encoder."))
                renamed[f"trunk.{name}"] = value
            elif key.startswith("image_proj."):
                renamed[key] = value
        return renamed

    def _input(self, image: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        x = image.to(self.mean.dtype)
        return self.normalised(functional.interpolate(x, size, mode="bilinear", antialias=True))


def _next_stage(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) + 1}.downsample."


def _check_sizes(image_size: int, window_size: int, width: int, depths: Sequence[int], heads: Sequence[int]) -> None:
    each("depths", depths, at_least, 1)
    each("num_heads", heads, at_least, 1)
    if not depths or len(depths) != len(heads):
        raise ValueError(
            f"depths and num_heads must have one entry for each stage, got {tuple(depths)} and {tuple(heads)}"
        )
    for name, size in (("image_size", image_size), ("window_size", window_size), ("embed_dim", width)):
        at_least(name, size, 1)
    for stage, count in enumerate(heads):
        side, rest = divmod(image_size, _PATCH << stage)
        if side < 1 or rest or side % min(side, window_size):
            raise ValueError(
                f"image_size {image_size} does not fit: stage s{stage + 1} would be {image_size / (_PATCH << stage):g} "
                f"patches wide; the width must be a whole number below window_size ({window_size}) or a multiple of it"
            )
        if (width << stage) % count:
            raise ValueError(f"the {width << stage} channels of s{stage + 1} must be a multiple of its {count} heads")
