"""A small SAM of segment-anything's own modules, and a made one whose masks are known beforehand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.segmentation import build_sam

TINY = dict(
    img_size=64, patch_size=8, embed_dim=16, depth=2, num_heads=2, window_size=4, global_attn_indexes=(1,),
    out_chans=16, decoder_heads=2, decoder_mlp_dim=16,
)  # fmt: skip


def tiny_sam(seed: int = 0):
    """Random weights, large enough that masks differ from prompt to prompt."""
    torch.manual_seed(seed)
    sam = build_sam("small", **TINY)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.mul_(3)
    return sam


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Dark noise with a brighter rectangle."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2, width // 3 : width // 2] += 90
    return image


class BrightnessSam(nn.Module):
    """SAM's interface; a mask is all that is on the same side of mid-grey as the point, or as the middle of the box.

    Its low-resolution logits are of the input's own size, so a rectangle that SAM sees whole comes out exact. ``asked``
    keeps the prompts.
    """

    image_format, mask_threshold = "RGB", 0.0

    def __init__(self, side: int) -> None:
        super().__init__()
        self.image_encoder = _Brightness(side)
        self.prompt_encoder = _Prompts(side)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def preprocess(self, x: Tensor) -> Tensor:
        side, (height, width) = self.image_encoder.img_size, x.shape[-2:]
        return F.pad(x.float() / 255, (0, side - width, 0, side - height))

    def mask_decoder(self, *, image_embeddings, sparse_prompt_embeddings, multimask_output, **others):
        contrast = image_embeddings[0] - 0.5
        masks = torch.stack([contrast[0, int(y), int(x)].sign() * contrast for x, y in sparse_prompt_embeddings])
        if multimask_output:
            masks = torch.cat([masks, -masks, masks], dim=1)
        return masks, masks.flatten(2).mean(-1)

    def postprocess_masks(self, masks: Tensor, input_size, original_size) -> Tensor:
        shown = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(shown, original_size, mode="bilinear", align_corners=False)


class _Brightness(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size, self.calls = side, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean(dim=1, keepdim=True)


class _Prompts(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.mask_input_size, self.asked = (side, side), []

    def get_dense_pe(self) -> None:
        return None

    def forward(self, points, boxes, masks):
        self.asked.append((points, boxes, masks))
        if masks is not None:
            # Where the mask found so far is surest: what a crop is asked about.
            best = masks.flatten(1).argmax(1)
            side = self.mask_input_size[1]
            return torch.stack([best % side, best // side], dim=1), None
        if points is not None:
            return points[0][:, 0], None
        return boxes.view(-1, 2, 2).mean(dim=1), None
