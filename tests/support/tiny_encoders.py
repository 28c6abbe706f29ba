"""Feature encoders made very small, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llie_preproc.registry import MODELS
from training.feature_encoders import FeatureEncoder

SWIN = dict(image_size=64, window_size=4, embed_dim=12, depths=(2, 2, 2), num_heads=(2, 3, 4), projection=7)
VIT = dict(projection=6, embed_dim=16, depth=3, num_heads=2, img_size=32, patch_size=8)
SAM = dict(
    embed_dim=16, depth=3, num_heads=2, img_size=64, patch_size=8, window_size=3, out_chans=8, global_attn_indexes=(1,)
)
TINY: dict[str, dict[str, Any]] = {
    "vgg16": dict(type="llie_preproc.VGGEncoder", layers=16, width=4),
    "vgg19": dict(type="llie_preproc.VGGEncoder", layers=19, width=4),
    "squeezenet": dict(type="llie_preproc.SqueezeNetEncoder", normalisation="caffe"),
    "clip": dict(type="llie_preproc.CLIPEncoder", **VIT),
    "sam": dict(type="llie_preproc.SAMEncoder", **SAM),
    "ram": dict(type="llie_preproc.RAMEncoder", **SWIN),
}
"""Configs of every kind of encoder."""

EXTRAS = {"clip": "timm", "ram": "timm", "sam": "segment_anything"}
"""Packages that some of the encoders need."""


def tiny(name: str, checkpoint: str | Path | None = None, **changes: Any) -> FeatureEncoder:
    """An encoder of ``TINY`` with seeded weights, or with those of a checkpoint; skips if its package is missing."""
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    torch.manual_seed(0)
    encoder = MODELS.build({**TINY[name], "checkpoint": checkpoint, **changes})
    assert isinstance(encoder, FeatureEncoder)
    return encoder if checkpoint else shaken(encoder)


def shaken(module: nn.Module) -> Any:
    """Change all weights and biases so much that each has an effect, zero-initialised ones included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=generator))
    return module
