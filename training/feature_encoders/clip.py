"""CLIP's image encoder, a vision transformer (Radford et al., ICML 2021)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from llie_preproc.checks import at_least
from llie_preproc.errors import require
from llie_preproc.registry import MODELS

from .base import FeatureEncoder

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
# Replacements that turn the names of OpenAI and OpenCLIP into timm's; their order matters.
_NAMES = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


@MODELS.register_module()
class CLIPEncoder(FeatureEncoder):
    """The vision transformer of CLIP. Pictures are resized to its square input (bicubic).

    The stages ``block0``, ``block1``, ... are the patch tokens after each block, ``(N, width, h, w)``. The vector is
    the class token after the last norm, projected into the space that CLIP shares with text.

    >>> import torch
    >>> encoder = CLIPEncoder(checkpoint=None, embed_dim=16, depth=2, num_heads=2, img_size=32, projection=8)
    >>> encoder.embed(torch.rand(1, 3, 40, 50)).shape, encoder(torch.rand(1, 3, 40, 50), ["block1"])[0].shape
    (torch.Size([1, 8]), torch.Size([1, 16, 2, 2]))

    Args:
        checkpoint: Path of a state dict in the layout of OpenAI and OpenCLIP (``visual.conv1.weight``, ...). OpenAI's
            own ``.pt`` files are TorchScript programs and are refused; OpenCLIP's files hold the same weights. None
            gives random weights, for tests.
        model: Name of the network in timm. OpenAI's weights need a name with ``quickgelu``, such as the default;
            LAION's need one without. A checkpoint does not show which it needs.
        projection: Length of the vector.
        **sizes: Other arguments of timm's network (``embed_dim``, ``depth``, ``num_heads``, ``img_size``, ...), which
            override those of the model.

    Raises:
        ValueError: timm has no such model, the model is not CLIP's vision transformer, or ``projection`` is below 1.
        CheckpointError: The checkpoint belongs to another network or has other sizes.
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        checkpoint: str | os.PathLike[str] | None,
        model: str = "vit_base_patch16_clip_quickgelu_224",
        projection: int = 512,
        **sizes: Any,
    ) -> None:
        at_least("projection", projection, 1)
        trunk = _vision_transformer(model, sizes)
        super().__init__([f"block{i}" for i in range(len(trunk.blocks))], _MEAN, _STD)
        self.trunk = trunk
        self.projection = nn.Linear(trunk.num_features, projection, bias=False)
        self.freeze(checkpoint)

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        indices = [self.stages.index(name) for name in stages]
        found = self.trunk.forward_intermediates(
            self._input(image), indices, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(stages, found, strict=True))

    def vector(self, image: Tensor) -> Tensor:
        """See the base class."""
        return self.projection(self.trunk.forward_features(self._input(image))[:, 0])

    def renamed(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See the base class."""
        renamed = {}
        for key, value in state.items():
            if key == "visual.proj":
                renamed["projection.weight"] = value.T
            elif key.startswith("visual."):
                name = key.removeprefix("visual.")
                for pattern, replacement in _NAMES:
                    name = re.sub(pattern, replacement, name)
                batched = {"cls_token": (1, 1, -1), "pos_embed": (1, *value.shape)}.get(name, value.shape)
                renamed[f"trunk.{name}"] = value.reshape(batched)
        return renamed

    def _input(self, image: Tensor) -> Tensor:
        size = tuple(self.trunk.patch_embed.img_size)
        x = image.to(self.mean.dtype)
        return self.normalised(functional.interpolate(x, size, mode="bicubic", antialias=True))


def _vision_transformer(model: str, sizes: Mapping[str, Any]) -> Any:
    require("timm", "the CLIP encoder")
    import timm

    if not (isinstance(model, str) and "_clip_" in model and timm.is_model(model)):
        known = ", ".join(timm.list_models("vit_base*_clip_*"))
        raise ValueError(f"model must be timm's name of a CLIP vision transformer, such as {known}; got {model!r}")
    trunk = timm.create_model(model, pretrained=False, num_classes=0, **sizes)
    if getattr(trunk, "num_prefix_tokens", 0) != 1 or not isinstance(trunk.norm_pre, nn.LayerNorm):
        raise ValueError(
            f"model must be CLIP's vision transformer, with a class token and a norm before the blocks, got {model!r}"
        )
    return trunk
