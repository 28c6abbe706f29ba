"""Segment Anything Models by name (Kirillov et al., ICCV 2023), and their public checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..checkpoints import load_checkpoint
from ..errors import require

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_PUBLIC = dict(img_size=1024, patch_size=16, window_size=14, out_chans=256, decoder_heads=8, decoder_mlp_dim=2048)
SAM_SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "vit_b": dict(_PUBLIC, embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
        "vit_l": dict(_PUBLIC, embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
        "vit_h": dict(_PUBLIC, embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
        "small": dict(
            img_size=128, patch_size=8, window_size=8, out_chans=64, decoder_heads=4, decoder_mlp_dim=256,
            embed_dim=96, depth=6, num_heads=4, global_attn_indexes=(2, 5),
        ),
    }
)  # fmt: skip
"""Sizes by name: those of the public models, and ``small`` (0.9 M parameters, 128 pixels a side), which this project
trains on rendered scenes for results that can be repeated in minutes."""

_FILES = "https://dl.fbaipublicfiles.com/segment_anything/"
PUBLIC_CHECKPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "vit_b": f"{_FILES}sam_vit_b_01ec64.pth"
        "#sha256=ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "vit_l": f"{_FILES}sam_vit_l_0b3195.pth"
        "#sha256=3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "vit_h": f"{_FILES}sam_vit_h_4b8939.pth"
        "#sha256=a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    }
)
"""URLs of the authors' weights with their digests: ``build_sam(name, PUBLIC_CHECKPOINTS[name])`` downloads them."""

_DECODER = ("decoder_heads", "decoder_mlp_dim")


def sam_sizes(model: str, **sizes: Any) -> dict[str, Any]:
    """The sizes of a model; ``sizes`` replace those of the same name.

    Raises:
        ValueError: There is no such model.
        TypeError: One of ``sizes`` is not a size of these models.

    Examples:
        >>> sam_sizes("vit_b", depth=2)["embed_dim"]
        768
    """
    if model not in SAM_SIZES:
        raise ValueError(f"model must be one of {', '.join(map(repr, SAM_SIZES))}, got {model!r}")
    config = dict(SAM_SIZES[model])
    if unknown := sizes.keys() - config.keys():
        raise TypeError(f"a SAM has no {', '.join(sorted(unknown))}; it has: {', '.join(config)}")
    return config | sizes


def image_encoder(**sizes: Any) -> nn.Module:
    """SAM's image encoder with the sizes of :func:`sam_sizes`; sizes of the decoder are ignored.

    Raises:
        MissingExtraError: segment-anything is not installed.

    Examples:
        >>> image_encoder(**sam_sizes("small"))(torch.zeros(1, 3, 128, 128)).shape
        torch.Size([1, 64, 16, 16])
    """
    require("segment_anything", "the Segment Anything Model")
    from segment_anything.modeling import ImageEncoderViT

    own = {name: value for name, value in sizes.items() if name not in _DECODER}
    return ImageEncoderViT(use_rel_pos=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), **own)


def build_sam(
    model: str = "vit_b",
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    **sizes: Any,
) -> Sam:
    """Build a SAM from segment-anything's modules, in evaluation mode.

    Args:
        model: Name of the model, a key of :data:`SAM_SIZES`.
        checkpoint: Path or URL with its digest (:data:`PUBLIC_CHECKPOINTS`), as for
            :func:`llie_preproc.checkpoints.read_state_dict`. None leaves the weights random, with meaningless masks.
        device: Device of the result; by default PyTorch's own.
        **sizes: Sizes that replace those of the model, for smaller networks.

    Raises:
        ValueError: There is no such model, or the image size is not a multiple of the patch size.
        TypeError: One of ``sizes`` is not a size of these models.
        FileNotFoundError, CheckpointError: The checkpoint is missing, unsafe, damaged, or of another model.
        MissingExtraError: segment-anything is not installed.

    Examples:
        >>> sam = build_sam("small")
        >>> sam.image_encoder.img_size, sam.training
        (128, False)
    """
    config = sam_sizes(model, **sizes)
    side, width = config["img_size"], config["out_chans"]
    if side % config["patch_size"]:
        raise ValueError(f"img_size must be a multiple of the patch size {config['patch_size']}, got {side}")
    encoder = image_encoder(**config)
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = side // config["patch_size"]
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=width, num_heads=config["decoder_heads"], mlp_dim=config["decoder_mlp_dim"]
    )
    sam = Sam(
        encoder,
        PromptEncoder(width, (grid, grid), (side, side), mask_in_chans=16),
        MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=width),
    ).eval()
    if checkpoint is not None:
        load_checkpoint(sam, checkpoint)
    return sam.to(device) if device is not None else sam
