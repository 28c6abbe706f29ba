"""Feature encoders against torchvision, segment-anything, PIL and a transformer of PyTorch's own attention."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
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
from llie_preproc.errors import CheckpointError, MissingExtraError
from llie_preproc.registry import MODELS
from training import feature_encoders
from training.feature_encoders import FeatureEncoder, RAMEncoder, SAMEncoder, VGGEncoder, build_encoder

SWIN = dict(image_size=64, window_size=4, embed_dim=12, depths=(2, 2, 2), num_heads=(2, 3, 4), projection=7)
VIT = dict(projection=6, embed_dim=16, depth=3, num_heads=2, img_size=32, patch_size=8)
SAM = dict(
    embed_dim=16, depth=3, num_heads=2, img_size=64, patch_size=8, window_size=3, out_chans=8, global_attn_indexes=(1,)
)
TINY: dict[str, dict[str, Any]] = {
    "vgg16": dict(type="llie_preproc.VGGEncoder", layers=16, width=4),
    "vgg19": dict(type="llie_preproc.VGGEncoder", layers=19, width=4),
    "clip": dict(type="llie_preproc.CLIPEncoder", **VIT),
    "sam": dict(type="llie_preproc.SAMEncoder", **SAM),
    "ram": dict(type="llie_preproc.RAMEncoder", **SWIN),
}
EXTRAS = {"clip": "timm", "ram": "timm", "sam": "segment_anything"}


def tiny(name: str, checkpoint: str | Path | None = None, **changes: Any) -> FeatureEncoder:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    torch.manual_seed(0)
    encoder = MODELS.build({**TINY[name], "checkpoint": checkpoint, **changes})
    assert isinstance(encoder, FeatureEncoder)
    return encoder if checkpoint else shaken(encoder)


def shaken(module: nn.Module) -> Any:
    """Weights and biases large enough for every one of them to show, zero-initialised ones included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=generator))
    return module


def picture(height: int, width: int, count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalised(image: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return torchvision.transforms.functional.normalize(image, mean, std)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
every = pytest.mark.parametrize("name", list(TINY))


@every
def test_weights_are_frozen_and_gradients_reach_the_picture(name: str) -> None:
    encoder = tiny(name).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    calls: list[Callable[[Tensor], Tensor]] = [encoder.embed]
    calls += [lambda x, s=s: encoder(x, [s])[0] for s in encoder.stages]
    for call in calls:
        image = picture(40, 40, 2).requires_grad_()
        call(image).square().sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()
        assert (image.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(p.grad is None for p in encoder.parameters())


@every
def test_stages_come_in_the_order_asked(name: str) -> None:
    encoder = tiny(name)
    image = picture(40, 40, 2)
    first, last = encoder.stages[0], encoder.stages[-1]
    deep, shallow, again = encoder(image, [last, first, last])
    assert torch.equal(deep, again)
    assert torch.equal(shallow, encoder(image, (first,))[0])
    assert deep.ndim == shallow.ndim == 4
    assert deep.shape[0] == encoder.embed(image).shape[0] == 2
    assert encoder.embed(image).ndim == 2


@every
def test_nothing_deeper_than_the_deepest_stage_is_computed(name: str) -> None:
    encoder = tiny(name)
    # One module a stage; CLIP's and SAM's stages are blocks, RAM's are layers.
    parts = {"clip": "trunk.blocks", "sam": "image_encoder.blocks", "ram": "trunk.layers"}.get(name, "features")
    modules = list(encoder.get_submodule(parts).children())
    ran: list[int] = []
    for i, module in enumerate(modules):
        module.register_forward_hook(lambda *_, i=i: ran.append(i))
    for i in range(len(modules)):
        ran.clear()
        encoder(picture(40, 40), [encoder.stages[i]])
        assert ran == list(range(i + 1))


@every
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    encoder = tiny(name)
    image = picture(36, 44, 3)
    together = [encoder.embed(image), *encoder(image, encoder.stages)]
    alone = [encoder.embed(image[1:2]), *encoder(image[1:2], encoder.stages)]
    for a, b in zip(together, alone, strict=True):
        assert (a[1:2] - b).abs().max() < 1e-4 * b.abs().max()


@every
def test_it_runs_in_mixed_precision(name: str) -> None:
    encoder = tiny(name)
    image = picture(40, 40).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vector, *maps = [encoder.embed(image), *encoder(image.to(torch.bfloat16), encoder.stages)]
    sum(f.float().square().mean() for f in (vector, *maps)).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    expected = encoder.embed(image.detach())
    assert (vector - expected).abs().max() < 0.1 * expected.abs().max()


@every
def test_a_stage_that_is_not_there(name: str) -> None:
    encoder = tiny(name)
    with pytest.raises(ValueError, match=rf"unknown stages 's9'.*{encoder.stages[0]}, .*{encoder.stages[-1]}"):
        encoder(picture(40, 40), [encoder.stages[0], "s9"])
    for none in ([], encoder.stages[0]):
        with pytest.raises(ValueError, match="list of at least one name"):
            encoder(picture(40, 40), none)


@every
def test_images_that_it_refuses(name: str) -> None:
    encoder = tiny(name)
    for call in (encoder.embed, lambda x: encoder(x, encoder.stages[:1])):
        with pytest.raises(TypeError, match="uint8"):
            call(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
        with pytest.raises(TypeError, match="ndarray"):
            call(np.zeros((1, 3, 40, 40), np.float32))
        for shape in ((3, 40, 40), (1, 4, 40, 40), (1, 1, 40, 40), (1, 3, 0, 40)):
            with pytest.raises(ValueError, match=re.escape(str(shape))):
                call(torch.zeros(shape))


@every
def test_a_checkpoint_of_our_own_comes_back(name: str, tmp_path: Path) -> None:
    encoder = tiny(name)
    save_state_dict(encoder.state_dict(), tmp_path / "encoder.safetensors")
    loaded = tiny(name, tmp_path / "encoder.safetensors")
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.embed(picture(40, 40)), encoder.embed(picture(40, 40)))


@pytest.mark.examples(8)
@every
@pytest.mark.parametrize("other", list(TINY))
def test_a_checkpoint_of_another_network(name: str, other: str, tmp_path: Path) -> None:
    state = tiny(other).state_dict()
    if name == other:
        state.pop(next(reversed(state)))
    save_state_dict(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors.* of \d+ tensors matched"):
        tiny(name, tmp_path / "other.safetensors")


@every
def test_a_checkpoint_of_other_sizes(name: str, tmp_path: Path) -> None:
    wider = {"width": 8} if name.startswith("vgg") else {"embed_dim": 24}
    save_state_dict(tiny(name, **wider).state_dict(), tmp_path / "wider.safetensors")
    with pytest.raises(CheckpointError, match="mismatched"):
        tiny(name, tmp_path / "wider.safetensors")


@every
def test_a_checkpoint_must_be_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoint"):
        MODELS.build(TINY[name])
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        tiny(name, tmp_path / "absent.pth")


@pytest.mark.parametrize(("name", "module"), EXTRAS.items())
def test_an_extra_that_is_missing(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_installed(top: str, purpose: str) -> None:
        raise MissingExtraError(top, purpose)

    monkeypatch.setattr(getattr(feature_encoders, name), "require", none_installed)
    with pytest.raises(ImportError, match=rf"{module}.*pip install"):
        tiny(name)


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
def test_vgg_is_torchvisions(layers: int, indices: dict[str, int], tmp_path: Path) -> None:
    """Indices of torchvision's layers are counted by hand; its ReLUs are in place: a forward pass for each stage."""
    network = shaken(torchvision_features(layers, 4)).eval()
    state = {f"features.{k}": v for k, v in network.state_dict().items()}
    state["classifier.0.weight"], state["classifier.0.bias"] = torch.zeros(5, 7), torch.zeros(5)
    torch.save(state, tmp_path / "vgg.pth")
    encoder = tiny(f"vgg{layers}", tmp_path / "vgg.pth")
    image = picture(37, 45, 2)
    with torch.no_grad():
        found = encoder(image, list(indices))
        expected = [network[: i + 1](normalised(image, *IMAGENET)) for i in indices.values()]
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-5)
    assert (found[-2] < 0).any()
    last = network[:-1](normalised(image, *IMAGENET)).mean((2, 3))
    torch.testing.assert_close(encoder.embed(image), last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [16, 19])
def test_public_vgg_files_fit(layers: int) -> None:
    with torch.device("meta"):
        public = {16: torchvision.models.vgg16, 19: torchvision.models.vgg19}[layers]().state_dict()
        own = VGGEncoder(checkpoint=None, layers=layers).state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in public.items() if k.startswith("features.")}


def test_a_picture_too_small_for_a_stage_of_vgg() -> None:
    encoder = tiny("vgg16")
    assert encoder(picture(16, 31), ["relu5_3"])[0].shape[-2:] == (1, 1)
    for call in (lambda x: encoder(x, ["relu1_1", "conv5_1"]), encoder.embed):
        with pytest.raises(ValueError, match=r"at least 16, got \(1, 3, 40, 15\)"):
            call(picture(40, 15))


@pytest.mark.parametrize(("changes", "message"), [({"layers": 11}, "16, 19, got 11"), ({"width": 0}, "width")])
def test_vgg_sizes_that_it_refuses(changes: dict, message: str) -> None:
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
    image = picture(height, width, seed=height)
    found = encoder(image, encoder.stages[:1])[0]
    expected = encoder(resized_by_pil(image, (side, side), how), encoder.stages[:1])[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# From torchvision's names to Microsoft's, which RAM's file has.
def microsoft_name(key: str) -> str:
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
    """What ``ram_swin_large_14m.pth`` holds, with the sizes of ``swin``."""
    own = {k: v for k, v in swin.state_dict().items() if not k.startswith("head.")}
    area = 16
    state = {
        f"visual_encoder.{microsoft_name(k)}": v.view(area, area) if k.endswith("_index") else v for k, v in own.items()
    }
    state["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(16, area, area)
    state |= {f"image_proj.{k}": v for k, v in projection.state_dict().items()}
    state |= {"label_embed": torch.zeros(9, 7), "tagging_head.encoder.layer.0.output.dense.weight": torch.zeros(4, 4)}
    return {"model": state, "epoch": 4}


def test_ram_is_the_swin_transformer_of_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(1)
    swin = SwinTransformer([4, 4], 12, [2, 2, 2], [2, 3, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=3)
    swin, projection = shaken(swin).eval(), shaken(nn.Linear(48, 7))
    assert "visual_encoder.layers.1.downsample.reduction.weight" in ram_file(swin, projection)["model"]
    torch.save(ram_file(swin, projection), tmp_path / "ram.pth")
    encoder = tiny("ram", tmp_path / "ram.pth")
    image = picture(64, 64, 2)
    found = encoder(image, ["s1", "s2", "s3"])
    assert [tuple(f.shape) for f in found] == [(2, 12, 16, 16), (2, 24, 8, 8), (2, 48, 4, 4)]
    with torch.no_grad():
        x = swin.features[0](normalised(image, *IMAGENET))
        for stage, f in enumerate(found):
            x = swin.features[2 * stage + 1](x)
            torch.testing.assert_close(f, x.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)
            x = swin.features[2 * stage + 2](x) if stage < 2 else x
        # RAM projects token 0, the mean of the others; the projection is linear, so the mean may come last.
        tokens = projection(swin.norm(x).flatten(1, 2))
    torch.testing.assert_close(encoder.embed(image), tokens.mean(1), rtol=1e-4, atol=1e-4)


def test_a_ram_file_of_another_window(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    swin = SwinTransformer([4, 4], 12, [2, 2, 2], [2, 3, 4], [4, 4])
    torch.save(ram_file(swin, nn.Linear(48, 7)), tmp_path / "ram.pth")
    with pytest.raises(CheckpointError, match="6 mismatched"):
        tiny("ram", tmp_path / "ram.pth", window_size=2)


def swin_count(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> int:
    """Parameters by hand: patches and norm; blocks of two norms, attention, bias table, MLP; merging; last norm."""
    total = 4 * 4 * 3 * width + width + 2 * width
    for i, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        c = width << i
        attention = 3 * c * c + 3 * c + c * c + c + (2 * window - 1) ** 2 * head
        total += depth * (4 * c + attention + 8 * c * c + 5 * c)
        total += 8 * c * c + 8 * c if i < len(depths) - 1 else 2 * c
    return total


@pytest.mark.further
def test_ram_at_its_published_size() -> None:
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
        ({"num_heads": (2, 3)}, "one entry a stage"),
        ({"num_heads": (2, 5, 4)}, "24 channels of s2 must be a multiple of its 5 heads"),
    ],
)
def test_ram_sizes_that_it_refuses(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("ram", **changes)


class ClipBlock(nn.Module):
    """A block of CLIP by PyTorch's own attention, whose names the public files have."""

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
def test_clip_is_a_transformer_of_pytorchs_attention(quick: bool, tmp_path: Path) -> None:
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
    image = picture(32, 32, 2)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        maps, vector = reference(normalised(image, mean, std))
    for f, e in zip(encoder(image, ["block0", "block1", "block2"]), maps, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder.embed(image), vector, rtol=1e-4, atol=1e-4)


def test_weights_in_half_precision(tmp_path: Path) -> None:
    """OpenAI's are."""
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


def test_clip_at_its_published_size() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        own = feature_encoders.CLIPEncoder(checkpoint=None)
        public = Clip(768, 12, 12, 224, 16, 512, quick=True)
    renamed = own.renamed({f"visual.{k}": v for k, v in public.state_dict().items()})
    assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in renamed.items()}


@pytest.mark.parametrize("model", ["vit_base_patch16_clip_999", "resnet50", "vit_base_patch16_224", 16])
def test_clip_models_that_it_refuses(model: Any) -> None:
    with pytest.raises(ValueError, match=f"vit_base_patch16_clip_224.*got {model!r}"):
        tiny("clip", model=model)


def sam_reference(encoder: FeatureEncoder) -> Any:
    """Segment-anything's own model around the same image encoder."""
    from segment_anything.modeling import Sam

    return Sam(encoder.image_encoder, nn.Identity(), nn.Identity())


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (130, 50), (20, 33)])
def test_sam_is_segment_anythings(shape: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("segment_anything")
    from segment_anything.utils.transforms import ResizeLongestSide

    written = tiny("sam").state_dict() | {"mask_decoder.iou_token.weight": torch.zeros(1, 4)}
    torch.save(written, tmp_path / "sam.pth")
    encoder = tiny("sam", tmp_path / "sam.pth")
    sam = sam_reference(encoder)
    seen: list[Tensor] = []
    for block in encoder.image_encoder.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.permute(0, 3, 1, 2)))
    image = picture(*shape)
    # By hand: segment-anything's own resizing of a batch takes the channels for the height.
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


def test_sam_on_a_smaller_input() -> None:
    """Its positions are the learned ones of a smaller grid: with a linear ramp, the ramp sampled between patches."""
    encoder = tiny("sam", image_size=32)
    assert isinstance(encoder, SAMEncoder)
    ramp = torch.arange(8.0)[None, :, None, None].expand(1, 8, 8, 16)
    encoder.image_encoder.pos_embed.data.copy_(ramp)
    tokens = torch.zeros(1, 4, 4, 16)
    inner = encoder._positions(tokens)[0, 1:3, :, 0]
    torch.testing.assert_close(inner, torch.tensor([2.5, 4.5])[:, None].expand(2, 4), rtol=0, atol=0.05)
    assert encoder(picture(64, 64), ["block2", "neck"])[1].shape == (1, 8, 4, 4)


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_public_sam_files_fit(model: str) -> None:
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
def test_sam_sizes_that_it_refuses(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("sam", **changes)


@pytest.fixture
def vgg_file(tmp_path: Path) -> str:
    save_state_dict(tiny("vgg16").state_dict(), tmp_path / "vgg.safetensors")
    return str(tmp_path / "vgg.safetensors")


def test_equal_configs_share_an_encoder_while_one_lives(vgg_file: str) -> None:
    config = dict(type="llie_preproc.VGGEncoder", layers=16, width=4, checkpoint=vgg_file)
    first = build_encoder(config)
    assert build_encoder(dict(reversed(config.items()))) is first
    assert build_encoder({**config, "type": VGGEncoder.__name__}) is first
    assert build_encoder(first) is first
    other = build_encoder({**config, "checkpoint": f"{Path(vgg_file).parent}/./vgg.safetensors"})
    assert other is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert torch.equal(build_encoder(config).embed(picture(40, 40)), other.embed(picture(40, 40)))


def test_random_encoders_are_not_shared() -> None:
    config = {**TINY["vgg16"], "checkpoint": None}
    assert build_encoder(config) is not build_encoder(config)


def test_reading_weights_leaves_the_random_state(vgg_file: str) -> None:
    config = dict(type="llie_preproc.VGGEncoder", layers=16, width=4, checkpoint=vgg_file)
    before = torch.get_rng_state()
    kept = [build_encoder(config), build_encoder(config)]
    assert torch.equal(before, torch.get_rng_state())
    assert kept[0] is kept[1]


def test_a_config_of_something_else() -> None:
    with pytest.raises(TypeError, match="config of a feature encoder"):
        build_encoder(dict(type="llie_preproc.PatchDiscriminator"))
