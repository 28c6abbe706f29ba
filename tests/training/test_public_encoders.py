"""VGG, RAM, CLIP and SAM encoders read public files, and equal torchvision, PyTorch and segment-anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.errors import CheckpointError
from tests.support.random_pictures import images
from tests.support.tiny_encoders import shaken, tiny
from training import feature_encoders
from training.feature_encoders import FeatureEncoder, RAMEncoder, SAMEncoder, VGGEncoder


def normalised(image: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return torchvision.transforms.functional.normalize(image, mean, std)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def torchvision_features(layers: int, width: int) -> nn.Sequential:
    table = torchvision.models.vgg.cfgs[{16: "D", 19: "E"}[layers]]
    return torchvision.models.vgg.make_layers([c if isinstance(c, str) else c * width // 64 for c in table])


@pytest.mark.parametrize(
    ("layers", "indices"),
    [
        (16, {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "conv4_1": 17, "pool5": 30}),
        (19, {"conv1_2": 2, "conv2_2": 7, "conv3_4": 16, "conv4_4": 25, "conv5_4": 34, "relu5_4": 35}),
    ],
)
def test_vgg_equals_torchvision(layers: int, indices: dict[str, int], tmp_path: Path) -> None:
    """The indices were counted by hand. ReLUs of torchvision work in place, so each stage needs its own pass."""
    network = shaken(torchvision_features(layers, 4)).eval()
    state = {f"features.{k}": v for k, v in network.state_dict().items()}
    state["classifier.0.weight"], state["classifier.0.bias"] = torch.zeros(5, 7), torch.zeros(5)
    torch.save(state, tmp_path / "vgg.pth")
    encoder = tiny(f"vgg{layers}", tmp_path / "vgg.pth")
    image = images(37, 45, 2)
    with torch.no_grad():
        found = encoder(image, list(indices))
        expected = [network[: i + 1](normalised(image, *IMAGENET)) for i in indices.values()]
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-5)
    assert (found[-2] < 0).any()
    last = network[:-1](normalised(image, *IMAGENET)).mean((2, 3))
    torch.testing.assert_close(encoder.embed(image), last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [16, 19])
def test_parameters_of_public_vgg_files_fit(layers: int) -> None:
    with torch.device("meta"):
        public = {16: torchvision.models.vgg16, 19: torchvision.models.vgg19}[layers]().state_dict()
        own = VGGEncoder(checkpoint=None, layers=layers).state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in public.items() if k.startswith("features.")}


def test_a_picture_too_small_for_a_stage_of_vgg_is_refused() -> None:
    encoder = tiny("vgg16")
    assert encoder(images(16, 31), ["relu5_3"])[0].shape[-2:] == (1, 1)
    for call in (lambda x: encoder(x, ["relu1_1", "conv5_1"]), encoder.embed):
        with pytest.raises(ValueError, match=r"at least 16, got \(1, 3, 40, 15\)"):
            call(images(40, 15))


@pytest.mark.parametrize(("changes", "message"), [({"layers": 11}, "16, 19, got 11"), ({"width": 0}, "width")])
def test_invalid_sizes_of_vgg_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("vgg16", **changes)


def resized_by_pil(image: Tensor, size: tuple[int, int], how: Image.Resampling) -> Tensor:
    channels = [Image.fromarray(c.numpy()).resize(size[::-1], how) for c in image[0]]
    return torch.stack([torch.from_numpy(np.array(c)) for c in channels])[None]


@settings(max_examples=12, deadline=None)
@given(height=st.integers(9, 150), width=st.integers(9, 150))
@pytest.mark.parametrize(
    ("name", "how"), [("ram", Image.Resampling.BILINEAR), ("clip", Image.Resampling.BICUBIC)], ids=["ram", "clip"]
)
def test_pictures_are_resized_as_pil_does(name: str, how: Image.Resampling, height: int, width: int) -> None:
    encoder = tiny(name)
    side = 64 if name == "ram" else 32
    image = images(height, width, seed=height)
    found = encoder(image, encoder.stages[:1])[0]
    expected = encoder(resized_by_pil(image, (side, side), how), encoder.stages[:1])[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def microsoft_name(key: str) -> str:
    """Translate torchvision's name of a Swin parameter into Microsoft's name, which RAM's file uses."""
    key = re.sub(r"^features\.0\.0\.", "patch_embed.proj.", key)
    key = re.sub(r"^features\.0\.2\.", "patch_embed.norm.", key)
    key = re.sub(r"\.mlp\.0\.", ".mlp.fc1.", key)
    key = re.sub(r"\.mlp\.3\.", ".mlp.fc2.", key)
    found = re.match(r"features\.(\d+)\.", key)
    if not found:
        return key
    index, rest = int(found[1]), key[found.end() :]
    return f"layers.{index // 2}.blocks.{rest}" if index % 2 else f"layers.{index // 2 - 1}.downsample.{rest}"


def ram_file(swin: SwinTransformer, projection: nn.Linear) -> dict[str, Any]:
    """Content of a file like ``ram_swin_large_14m.pth``, with the sizes of ``swin``."""
    own = {k: v for k, v in swin.state_dict().items() if not k.startswith("head.")}
    area = 16
    state = {
        f"visual_encoder.{microsoft_name(k)}": v.view(area, area) if k.endswith("_index") else v for k, v in own.items()
    }
    state["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(16, area, area)
    state |= {f"image_proj.{k}": v for k, v in projection.state_dict().items()}
    state |= {"label_embed": torch.zeros(9, 7), "tagging_head.encoder.layer.0.output.dense.weight": torch.zeros(4, 4)}
    return {"model": state, "epoch": 4}


def test_ram_equals_the_swin_transformer_of_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(1)
    swin = SwinTransformer([4, 4], 12, [2, 2, 2], [2, 3, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=3)
    swin, projection = shaken(swin).eval(), shaken(nn.Linear(48, 7))
    assert "visual_encoder.layers.1.downsample.reduction.weight" in ram_file(swin, projection)["model"]
    torch.save(ram_file(swin, projection), tmp_path / "ram.pth")
    encoder = tiny("ram", tmp_path / "ram.pth")
    image = images(64, 64, 2)
    found = encoder(image, ["s1", "s2", "s3"])
    assert [tuple(f.shape) for f in found] == [(2, 12, 16, 16), (2, 24, 8, 8), (2, 48, 4, 4)]
    with torch.no_grad():
        x = swin.features[0](normalised(image, *IMAGENET))
        for stage, f in enumerate(found):
            x = swin.features[2 * stage + 1](x)
            torch.testing.assert_close(f, x.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)
            x = swin.features[2 * stage + 2](x) if stage < 2 else x
        # RAM projects the mean of the tokens; the projection is linear, so the mean may be taken after it.
        tokens = projection(swin.norm(x).flatten(1, 2))
    torch.testing.assert_close(encoder.embed(image), tokens.mean(1), rtol=1e-4, atol=1e-4)


def test_a_ram_file_of_another_window_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    swin = SwinTransformer([4, 4], 12, [2, 2, 2], [2, 3, 4], [4, 4])
    torch.save(ram_file(swin, nn.Linear(48, 7)), tmp_path / "ram.pth")
    with pytest.raises(CheckpointError, match="6 mismatched"):
        tiny("ram", tmp_path / "ram.pth", window_size=2)


def swin_count(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> int:
    """Number of parameters of a Swin transformer: patch embedding, blocks, merging between stages and last norm."""
    total = 4 * 4 * 3 * width + width + 2 * width
    for i, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        c = width << i
        attention = 3 * c * c + 3 * c + c * c + c + (2 * window - 1) ** 2 * head
        total += depth * (4 * c + attention + 8 * c * c + 5 * c)
        total += 8 * c * c + 8 * c if i < len(depths) - 1 else 2 * c
    return total


@pytest.mark.further
def test_ram_has_its_published_size() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        encoder = RAMEncoder(checkpoint=None)
        maps = encoder(torch.empty(1, 3, 256, 256), ["s1", "s2", "s3", "s4"])
        vector = encoder.embed(torch.empty(2, 3, 100, 300))
    count = sum(p.numel() for p in encoder.trunk.parameters())
    assert count == swin_count(192, (2, 2, 18, 2), (6, 12, 24, 48), 12) == 195_198_516
    assert sum(p.numel() for p in encoder.parameters()) - count == 1536 * 512 + 512
    assert [tuple(f.shape[1:]) for f in maps] == [(192, 96, 96), (384, 48, 48), (768, 24, 24), (1536, 12, 12)]
    assert vector.shape == (2, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 48}, "image_size 48 does not fit: stage s2 would be 6 patches"),
        ({"image_size": 8}, "image_size 8 does not fit: stage s3 would be 0.5 patches"),
        ({"num_heads": (2, 3)}, "one entry for each stage"),
        ({"num_heads": (2, 5, 4)}, "24 channels of s2 must be a multiple of its 5 heads"),
    ],
)
def test_invalid_sizes_of_ram_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("ram", **changes)


class ClipBlock(nn.Module):
    """A block of CLIP with PyTorch's attention and the parameter names of the public files."""

    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.quick = quick

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else functional.gelu(hidden)
        return x + self.mlp["c_proj"](hidden)


class Clip(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, side: int, patch: int, out: int, quick: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = nn.ModuleList(ClipBlock(width, heads, quick) for _ in range(depth))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.proj = nn.Parameter(torch.zeros(width, out))

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        grid = self.conv1(image)
        first = self.class_embedding.expand(len(image), 1, -1)
        x = self.ln_pre(torch.cat([first, grid.flatten(2).mT], dim=1) + self.positional_embedding)
        maps = []
        for block in self.transformer["resblocks"]:
            x = block(x)
            maps.append(x[:, 1:].mT.reshape(grid.shape))
        return maps, self.ln_post(x[:, 0]) @ self.proj


@pytest.mark.parametrize("quick", [True, False])
def test_clip_equals_a_transformer_with_pytorchs_attention(quick: bool, tmp_path: Path) -> None:
    reference = shaken(Clip(16, 3, 2, 32, 8, 6, quick)).eval()
    state = {f"visual.{k}": v for k, v in reference.state_dict().items()}
    others = {
        "positional_embedding": torch.zeros(7, 5),
        "text_projection": torch.zeros(5, 6),
        "logit_scale": torch.ones([]),
    }
    torch.save({**state, **others}, tmp_path / "clip.pth")
    model = "vit_base_patch16_clip_quickgelu_224" if quick else "vit_base_patch16_clip_224"
    encoder = tiny("clip", tmp_path / "clip.pth", model=model)
    image = images(32, 32, 2)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        maps, vector = reference(normalised(image, mean, std))
    for f, e in zip(encoder(image, ["block0", "block1", "block2"]), maps, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder.embed(image), vector, rtol=1e-4, atol=1e-4)


def test_weights_in_half_precision_are_loaded_as_float32(tmp_path: Path) -> None:
    """OpenAI's files of CLIP are in half precision."""
    encoder = tiny("clip").half()
    save_state_dict(encoder.state_dict(), tmp_path / "half.safetensors")
    loaded = tiny("clip", tmp_path / "half.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for ours, theirs in zip(loaded.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs.float())


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "ViT-B-16.pt"))
    with pytest.raises(CheckpointError, match=r"ViT-B-16\.pt.*TorchScript"):
        tiny("clip", tmp_path / "ViT-B-16.pt")


def test_parameters_of_public_clip_files_fit() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        own = feature_encoders.CLIPEncoder(checkpoint=None)
        public = Clip(768, 12, 12, 224, 16, 512, quick=True)
    renamed = own.renamed({f"visual.{k}": v for k, v in public.state_dict().items()})
    assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in renamed.items()}


@pytest.mark.parametrize("model", ["vit_base_patch16_clip_999", "resnet50", "vit_base_patch16_224", 16])
def test_other_models_are_refused_for_clip(model: Any) -> None:
    with pytest.raises(ValueError, match=f"vit_base_patch16_clip_224.*got {model!r}"):
        tiny("clip", model=model)


def sam_reference(encoder: FeatureEncoder) -> Any:
    """Segment-anything's model with the image encoder of ``encoder``."""
    from segment_anything.modeling import Sam

    return Sam(encoder.image_encoder, nn.Identity(), nn.Identity())


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (130, 50), (20, 33)])
def test_sam_equals_segment_anything(shape: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("segment_anything")
    from segment_anything.utils.transforms import ResizeLongestSide

    written = tiny("sam").state_dict() | {"mask_decoder.iou_token.weight": torch.zeros(1, 4)}
    torch.save(written, tmp_path / "sam.pth")
    encoder = tiny("sam", tmp_path / "sam.pth")
    sam = sam_reference(encoder)
    seen: list[Tensor] = []
    for block in encoder.image_encoder.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.permute(0, 3, 1, 2)))
    image = images(*shape)
    # Segment-anything resizes a batch as if the channels were the height, so Pillow resizes here.
    size = ResizeLongestSide.get_preprocess_shape(*shape, 64)
    resized = resized_by_pil(image, size, Image.Resampling.BILINEAR) * 255
    with torch.no_grad():
        neck = sam.image_encoder(sam.preprocess(resized))
        expected = [*seen, neck]
        height, width = (-(-n // 8) for n in resized.shape[-2:])
        found = encoder(image, encoder.stages)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e[..., :height, :width], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder.embed(image), neck[..., :height, :width].mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_sam_interpolates_its_positions_for_a_smaller_input() -> None:
    """Positions on a linear ramp are interpolated to other values of the ramp."""
    encoder = tiny("sam", image_size=32)
    assert isinstance(encoder, SAMEncoder)
    ramp = torch.arange(8.0)[None, :, None, None].expand(1, 8, 8, 16)
    encoder.image_encoder.pos_embed.data.copy_(ramp)
    tokens = torch.zeros(1, 4, 4, 16)
    inner = encoder._positions(tokens)[0, 1:3, :, 0]
    torch.testing.assert_close(inner, torch.tensor([2.5, 4.5])[:, None].expand(2, 4), rtol=0, atol=0.05)
    assert encoder(images(64, 64), ["block2", "neck"])[1].shape == (1, 8, 4, 4)


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_parameters_of_public_sam_files_fit(model: str) -> None:
    pytest.importorskip("segment_anything")
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        public = sam_model_registry[model]().state_dict()
        own = SAMEncoder(checkpoint=None, model=model).state_dict()
    kept = {k: v.shape for k, v in public.items() if k.startswith("image_encoder.")}
    assert {k: v.shape for k, v in own.items()} == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vit_x"}, "'vit_b', 'vit_l', 'vit_h', got 'vit_x'"),
        ({"image_size": 36}, "multiple of the patch size 8"),
    ],
)
def test_invalid_sizes_of_sam_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("sam", **changes)
