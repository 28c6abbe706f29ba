"""A small SAM of segment-anything's own modules, and a stand-in whose masks are known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.segmentation import build_sam

TINY = dict(
    img_size=64, patch_size=8, embed_dim=16, depth=2, num_heads=2, window_size=4, global_attn_indexes=(1,),
    out_chans=16, decoder_heads=2, decoder_mlp_dim=16,
)  # fmt: skip


# Largest change that float32 may make to a tiny SAM's answer, relative to the answer's largest magnitude. A pixel goes
# through some 40 sums one after the other (two blocks of the encoder with its neck, two of the decoder, the
# enlargement, the product with the mask's weights) of at most 192 terms (8 * 8 pixels of three channels), each rounded
# by half of eps.
ROUNDING = 40 * 192 * torch.finfo(torch.float32).eps / 2


def tiny_sam(seed: int = 0) -> Any:
    """A SAM with random weights, larger in the heads, so that masks differ from prompt to prompt.

    The weights of attention and normalisation stay as they are initialised. Larger ones make the network chaotic: then
    a rounding of float32 grows into another mask, and no tolerance tells a rounding from a fault.
    ``test_a_tiny_sam_rounds_no_more_than_assumed`` checks :data:`ROUNDING`.
    """
    torch.manual_seed(seed)
    sam = build_sam("small", **TINY)
    heads = ("output_upscaling", "output_hypernetworks_mlps", "iou_prediction_head")
    with torch.no_grad():
        for head in heads:
            for parameter in getattr(sam.mask_decoder, head).parameters():
                parameter.mul_(3)
    return sam


def in_float64(sam: Any) -> Any:
    """The same SAM, changed to compute in float64.

    Its positional encoding is replaced, because segment-anything's converts to float32.
    """
    encoding = sam.double().prompt_encoder.pe_layer
    height, width = sam.prompt_encoder.image_embedding_size

    def forward_with_coords(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
        return encoding._pe_encoding(coordinates.double() / torch.tensor(size[::-1], dtype=torch.float64))

    def get_dense_pe() -> Tensor:
        y, x = ((torch.arange(length, dtype=torch.float64) + 0.5) / length for length in (height, width))
        places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
        return encoding._pe_encoding(places).permute(2, 0, 1)[None]

    encoding.forward_with_coords, sam.prompt_encoder.get_dense_pe = forward_with_coords, get_dense_pe
    return sam


def assert_equal_but_for_rounding(own: Tensor, expected: Tensor, roundings: float = ROUNDING) -> None:
    """Assert that two computations of a value differ by at most twice ``roundings``, relative to its maximum."""
    torch.testing.assert_close(own, expected, rtol=0, atol=2 * roundings * float(expected.detach().abs().max()))


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """``(height, width, 3)`` uint8 of dark noise with a brighter rectangle."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2, width // 3 : width // 2] += 90
    return image


class BrightnessSam(nn.Module):
    """A stand-in with SAM's interface.

    A mask holds the pixels on the same side of mid-grey as the point, or as the middle of the box.

    Its low-resolution logits have the input's size, so the mask of a rectangle that SAM sees whole is exact.
    ``prompt_encoder.asked`` keeps the prompts.
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
        # The logits are as large as SAM's, which reach tens at the surest pixels.
        contrast = 40 * (image_embeddings[0] - 0.5)
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
            # The prompt of a crop is the surest pixel of the mask found so far.
            best = masks.flatten(1).argmax(1)
            side = self.mask_input_size[1]
            return torch.stack([best % side, best // side], dim=1), None
        if points is not None:
            return points[0][:, 0], None
        return boxes.view(-1, 2, 2).mean(dim=1), None
