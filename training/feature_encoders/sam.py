"""The image encoder of the Segment Anything Model, a vision transformer (Kirillov et al., ICCV 2023)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from llie_preproc.errors import require
from llie_preproc.registry import MODELS

from .base import FeatureEncoder

_MODELS: dict[str, dict[str, Any]] = {
    "vit_b": dict(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
    "vit_l": dict(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    "vit_h": dict(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
}
_COMMON: dict[str, Any] = dict(
    img_size=1024,
    patch_size=16,
    window_size=14,
    out_chans=256,
    use_rel_pos=True,
    norm_layer=partial(nn.LayerNorm, eps=1e-6),
)


@MODELS.register_module()
class SAMEncoder(FeatureEncoder):
    """SAM's image encoder. As in SAM the longer side is resized to the input size and the shorter one zero-padded.

    Stages: ``block0``, ``block1``, ...: the patch tokens after each block, ``(N, width, h, w)``, and ``neck``, SAM's
    image embedding ``(N, 256, h, w)``; of the patches that show the picture, at 1/16 of its resized size. The vector
    is the mean of the neck over those, 256 values.

    Args:
        checkpoint: Path of ``sam_vit_b_01ec64.pth`` (``sam_vit_l_0b3195.pth``, ``sam_vit_h_4b8939.pth``), of which all
            but the image encoder is left out. None: random weights, for tests.
        model: ``'vit_b'``, ``'vit_l'`` or ``'vit_h'``.
        image_size: Side of the input; None: the 1024 that the weights were trained at. Smaller ones, which cost a
            fraction (global attention grows with the fourth power of the side), interpolate the positions.
        **sizes: What else segment-anything's ``ImageEncoderViT`` takes, over the model's own.

    Raises:
        ValueError: No such model, or an ``image_size`` that is no multiple of the patch size.
        CheckpointError: The checkpoint is of another network or of other sizes.
        MissingExtraError: segment-anything is not installed.
    """

    def __init__(
        self,
        *,
        checkpoint: str | os.PathLike[str] | None,
        model: str = "vit_b",
        image_size: int | None = None,
        **sizes: Any,
    ) -> None:
        if model not in _MODELS:
            raise ValueError(f"model must be one of {', '.join(map(repr, _MODELS))}, got {model!r}")
        config = {**_COMMON, **_MODELS[model], **sizes}
        size = config["img_size"] if image_size is None else image_size
        if size < 1 or size % config["patch_size"]:
            raise ValueError(f"image_size must be a multiple of the patch size {config['patch_size']}, got {size}")
        require("segment_anything", "the SAM encoder")
        from segment_anything.modeling import ImageEncoderViT

        super().__init__([*(f"block{i}" for i in range(config["depth"])), "neck"])
        self.image_size: int = size
        self.patch_size: int = config["patch_size"]
        self.image_encoder = ImageEncoderViT(**config)
        self.freeze(checkpoint)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        x = self.normalised(self._resized(image))
        height, width = x.shape[-2:]
        padded = functional.pad(x, (0, self.image_size - width, 0, self.image_size - height))
        shown = [-(-n // self.patch_size) for n in (height, width)]
        found = self._encoded(padded, stages)
        return {name: found[name][..., : shown[0], : shown[1]] for name in stages}

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        return self.maps(image, ["neck"])["neck"].mean(dim=(2, 3))

    def _resized(self, image: Tensor) -> Tensor:
        scale = self.image_size / max(image.shape[-2:])
        size = [max(1, int(n * scale + 0.5)) for n in image.shape[-2:]]
        return functional.interpolate(image.to(self.mean.dtype), size, mode="bilinear", antialias=True)

    def _encoded(self, x: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.image_encoder.patch_embed(x)
        tokens = tokens + self._positions(tokens)
        found = {}
        for name, block in zip(self.stages, self.image_encoder.blocks, strict=False):
            tokens = block(tokens)
            found[name] = tokens.permute(0, 3, 1, 2)
            if name == stages[-1]:
                return found
        return {**found, "neck": self.image_encoder.neck(tokens.permute(0, 3, 1, 2))}

    def _positions(self, tokens: Tensor) -> Tensor:
        """The positional embedding ``(1, h, w, C)`` at the size of the tokens."""
        learned = self.image_encoder.pos_embed
        if learned.shape[1:3] == tokens.shape[1:3]:
            return learned
        resized = functional.interpolate(learned.permute(0, 3, 1, 2), tokens.shape[1:3], mode="bicubic", antialias=True)
        return resized.permute(0, 2, 3, 1)
