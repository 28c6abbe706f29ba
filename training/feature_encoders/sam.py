"""The frozen Segment Anything Model (SAM; Kirillov et al., ICCV 2023): its image encoder, and the whole model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llie_preproc.checks import at_least
from llie_preproc.errors import require
from llie_preproc.registry import MODELS
from llie_preproc.segmentation import PUBLIC_CHECKPOINTS, build_sam, models

from .base import FeatureEncoder, FrozenModule


@MODELS.register_module()
class SAMEncoder(FeatureEncoder):
    """SAM's image encoder.

    As in SAM, a picture is resized so that its longer side fits the input, and the rest is padded with zeros. The
    stages ``block0``, ``block1``, ... are the patch tokens after each block, ``(N, width, h, w)``; the last stage,
    ``neck``, is SAM's image embedding ``(N, 256, h, w)``. All stages hold only the patches that show the picture, not
    the padding, at 1/16 of the resized picture. The vector is the mean of the neck over these patches, 256 values.

    >>> sizes = dict(patch_size=8, embed_dim=16, depth=1, num_heads=2, window_size=4, out_chans=16)
    >>> encoder = SAMEncoder(checkpoint=None, image_size=64, img_size=64, global_attn_indexes=(0,), **sizes)
    >>> encoder(torch.rand(1, 3, 32, 64), ["neck"])[0].shape
    torch.Size([1, 16, 4, 8])

    Args:
        checkpoint: Path of ``sam_vit_b_01ec64.pth`` (``sam_vit_l_0b3195.pth``, ``sam_vit_h_4b8939.pth``). Only the
            image encoder is read from it. None gives random weights, for tests.
        model: ``'vit_b'``, ``'vit_l'`` or ``'vit_h'``.
        image_size: Side of the input. None takes 1024, the size that the weights were trained at. Smaller sizes
            interpolate the positions and cost a fraction: global attention grows with the fourth power of the side.
        **sizes: Sizes that override those of the model, as in :func:`llie_preproc.segmentation.build_sam`.

    Raises:
        ValueError: The model is unknown, or ``image_size`` is not a multiple of the patch size.
        TypeError: A size has a name that models do not have.
        CheckpointError: The checkpoint belongs to another network or has other sizes.
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
        if model not in PUBLIC_CHECKPOINTS:
            raise ValueError(f"model must be one of {', '.join(map(repr, PUBLIC_CHECKPOINTS))}, got {model!r}")
        config = models.sam_sizes(model, **sizes)
        size = config["img_size"] if image_size is None else image_size
        at_least("image_size", size, 1)
        if size % config["patch_size"]:
            raise ValueError(f"image_size must be a multiple of the patch size {config['patch_size']}, got {size}")
        require("segment_anything", "the SAM encoder")
        super().__init__([*(f"block{i}" for i in range(config["depth"])), "neck"])
        self.image_size: int = size
        self.patch_size: int = config["patch_size"]
        self.image_encoder: Any = models.image_encoder(**config)
        self.freeze(checkpoint)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        x = self.normalised(self._resized(image))
        height, width = x.shape[-2:]
        padded = functional.pad(x, (0, self.image_size - width, 0, self.image_size - height))
        found = self._encoded(padded, stages)
        shown = _shown((height, width), self.patch_size)
        return {name: found[name][shown] for name in stages}

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        return self.maps(image, ["neck"])["neck"].mean(dim=(2, 3))

    def _resized(self, image: Tensor) -> Tensor:
        size = _input_size(image.shape[-2:], self.image_size)
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


class FrozenSAM(FrozenModule):
    """A whole SAM whose weights take no gradient; gradients reach the pictures.

    >>> sizes = dict(img_size=64, patch_size=8, embed_dim=16, depth=1, num_heads=2, window_size=4, out_chans=16)
    >>> sam = FrozenSAM(checkpoint=None, model="small", global_attn_indexes=(0,), decoder_heads=2, **sizes)
    >>> embedding = sam.embed(torch.rand(1, 3, 32, 64))
    >>> sam.masks(embedding, (32, 64), boxes=torch.tensor([[8.0, 8.0, 24.0, 24.0]])).shape
    torch.Size([1, 32, 64])

    Args:
        checkpoint: Path of the weights, as in :func:`llie_preproc.segmentation.build_sam`. None gives random weights,
            for tests.
        **config: Other arguments of :func:`llie_preproc.segmentation.build_sam`: ``model`` and sizes.

    Raises:
        ValueError, TypeError, FileNotFoundError, CheckpointError, MissingExtraError: :func:`build_sam` raises them.
    """

    def __init__(self, *, checkpoint: str | os.PathLike[str] | None, **config: Any) -> None:
        super().__init__()
        self.model: Any = build_sam(checkpoint=checkpoint, **config).requires_grad_(False)

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings ``(N, C, h, w)`` float32, padding included, of pictures ``(N, 3, H, W)`` RGB in [0, 1].

        Values beyond the range are not clamped.
        """
        from llie_preproc.segmentation.predictor import sam_embeddings

        return sam_embeddings(self.model, images).float()

    def shown(self, embedding: Tensor, size: Sequence[int]) -> Tensor:
        """The part of embeddings that shows pictures of ``size`` ``(H, W)``, without the padding."""
        encoder = self.model.image_encoder
        return embedding[_shown(_input_size(size, encoder.img_size), encoder.img_size // embedding.shape[-1])]

    def masks(self, embedding: Tensor, size: Sequence[int], boxes: Tensor) -> Tensor:
        """Logits ``(n, H, W)`` of one mask for each box.

        They are computed without autocast, which would round the places of the boxes.

        Args:
            embedding: Embedding ``(1, C, h, w)`` of one picture.
            size: ``(H, W)`` of the picture, or of another resolution of it.
            boxes: Boxes ``(n, 4)`` x1 y1 x2 y2 in pixels of ``size``; at least one.
        """
        from llie_preproc.segmentation.predictor import decode_masks

        with torch.autocast(embedding.device.type, enabled=False):
            return decode_masks(self.model, embedding, size, boxes=boxes)[0][:, 0]


def _input_size(size: Sequence[int], side: int) -> tuple[int, int]:
    """The size ``(h, w)`` that a picture of ``size`` ``(H, W)`` has in SAM's input."""
    height, width = (max(1, int(n * (side / max(size)) + 0.5)) for n in size)
    return height, width


def _shown(size: Sequence[int], patch: int) -> tuple[Any, ...]:
    """An index into ``(..., h, w)`` that selects the patches of a picture whose size in SAM's input is ``size``."""
    return (..., *(slice(-(-n // patch)) for n in size))
