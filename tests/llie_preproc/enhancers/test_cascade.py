"""``Cascade`` gives what its members give one after another, in Python, in configs and from the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llie_preproc import build_enhancer, enhance
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.commands.llie import main
from llie_preproc.enhancers import SCI, Capabilities, Cascade, Enhancer, IAMLUNet, PSENet, Upscale, ZeroDCE
from llie_preproc.inference import enhance_batch
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.registry import MODELS
from tests.support.random_pictures import dark_image


class Gain(Enhancer):
    """An enhancer that multiplies, and so leaves the range."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.seen = torch.empty(0)

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image.detach()
        return image * self.gain


def seeded(config: dict[str, Any]) -> Enhancer:
    torch.manual_seed(0)
    return build_enhancer(config, checkpoint=None)


MEMBERS = [
    [{"type": "PSENet"}, {"type": "Upscale", "scale": 4}],
    [{"type": "Upscale", "scale": 2}, {"type": "PSENet"}],
    [{"type": "IAMLUNet", "width": 4, "depth": 3}, {"type": "GammaCorrection"}, {"type": "Upscale"}],
    [{"type": "Upscale"}, {"type": "IAMLUNet", "width": 4, "depth": 2}, {"type": "Upscale", "mode": "nearest"}],
    [{"type": "CLAHE"}, {"type": "SCI"}],
]


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (33, 26)])
def test_the_result_is_that_of_the_members_one_after_another(
    members: list[dict[str, Any]], size: tuple[int, int]
) -> None:
    """The results are equal to the last bit, also if members pad to different sizes or leave the range."""
    networks = [seeded(member) for member in members]
    images = [dark_image(*size), dark_image(*size, seed=1), dark_image(12, 10)]
    expected = images
    for network in networks:
        expected = enhance(expected, network)
    assert all(map(torch.equal, enhance(images, Cascade(networks)), expected))


def test_in_bfloat16_the_result_is_that_of_the_members() -> None:
    networks = [seeded({"type": "PSENet"}), seeded({"type": "IAMLUNet", "width": 4, "depth": 2})]
    once = enhance(dark_image(18, 21), networks[0], precision="bfloat16")
    expected = enhance(once, networks[1], precision="bfloat16")
    assert torch.equal(enhance(dark_image(18, 21), Cascade(networks), precision="bfloat16"), expected)


def test_the_default_brightens_and_doubles() -> None:
    result = enhance(dark_image(20, 24), "Cascade")
    assert result.shape == (3, 40, 48)
    assert torch.equal(result, enhance(enhance(dark_image(20, 24), "PSENet"), "Upscale"))


# Values between members.


def test_members_see_the_range_that_enhancers_take() -> None:
    cascade = Cascade([Gain(4.0), Gain(-1.0), Gain(1.0)])
    image = dark_image(6, 6)
    for mode in (True, False):
        result = cascade.train(mode)(image[None])
        assert torch.equal(cascade.members[1].seen[0], (4 * image).clamp(0, 1))
        assert torch.equal(cascade.members[2].seen, torch.zeros(1, 3, 6, 6))
        assert torch.equal(result, torch.zeros(1, 3, 6, 6))


def test_the_last_result_is_not_clamped() -> None:
    assert torch.equal(Cascade([Gain(1.0), Gain(4.0)])(dark_image(5, 5)[None])[0], 4 * dark_image(5, 5))


def test_gradients_reach_members_that_left_the_range() -> None:
    """A hard clamp would give the first gain no gradient, since all of its results are above 1."""
    cascade = Cascade([Gain(100.0), Gain(0.5)])
    image = 0.1 + dark_image(6, 6)
    enhance_batch([image], cascade, clamp=False)[0].sum().backward()
    first, second = (member.gain.grad for member in cascade.members)
    assert torch.allclose(first, 0.5 * image.sum())
    assert torch.allclose(second, torch.tensor(float(image.numel())))


# Capabilities.


def local(scale: int = 1, halo: int | None = 0, **needs: Any) -> Enhancer:
    enhancer = Upscale(scale, "nearest")
    enhancer.capabilities = Capabilities(scale=scale, halo=halo, **needs)
    return enhancer


@pytest.mark.parametrize(
    ("members", "halo"),
    [
        ([local(1, 7), local(1, 3)], 10),
        ([local(1, 7), local(4, 2)], 9),
        ([local(4, 2), local(1, 7)], 2 + 2),
        ([local(2, 1), local(2, 3), local(1, 5)], 1 + 3),
        ([local(1, 7), local(1, None)], None),
        ([local(1, 7), local(1, 3, size_divisor=4)], None),
    ],
)
def test_halos_compose_through_scales(members: list[Enhancer], halo: int | None) -> None:
    assert Cascade(members).capabilities.halo == halo


@pytest.mark.parametrize("members", [[ZeroDCE(8), Upscale(4)], [Upscale(2), SCI(2), Upscale(2)], [SCI(), ZeroDCE(4)]])
def test_a_tile_with_its_halo_gives_the_result_of_the_whole(members: list[Enhancer]) -> None:
    cascade = Cascade(members)
    image, halo, scale = dark_image(48, 48), cascade.capabilities.halo, cascade.scale
    assert halo is not None
    whole = enhance(image, cascade)
    tile = enhance(image[:, 20 - halo : 27 + halo, 22 - halo : 25 + halo], cascade)
    inner = tile[:, halo * scale : (halo + 7) * scale, halo * scale : (halo + 3) * scale]
    assert torch.allclose(inner, whole[:, 20 * scale : 27 * scale, 22 * scale : 25 * scale], atol=1e-6)


def test_a_cascade_can_do_what_all_its_members_can() -> None:
    cascade = Cascade(["PSENet", ZeroDCE(), IAMLUNet(width=4)])
    assert cascade.capabilities.precisions == (torch.float32, torch.bfloat16)
    assert cascade.capabilities.differentiable
    assert not Cascade(["PSENet", "CLAHE"]).capabilities.differentiable
    assert (cascade.capabilities.size_divisor, cascade.capabilities.min_size) == (1, 1)
    assert Cascade([Upscale(4), Cascade([Upscale(2), "PSENet", Upscale(2)])]).scale == 16


# Building.


def test_members_have_the_weights_that_they_name(tmp_path: Path) -> None:
    torch.manual_seed(3)
    own = IAMLUNet(width=4, depth=1)
    save_state_dict(own.state_dict(), tmp_path / "own.safetensors")
    config = {"type": "IAMLUNet", "width": 4, "depth": 1, "checkpoint": tmp_path / "own.safetensors"}
    cascade = build_enhancer({"type": "Cascade", "enhancers": ["PSENet", config]})
    for member, expected in zip(cascade.members, [build_enhancer("PSENet"), own], strict=True):
        state = expected.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in member.state_dict().items())
    assert not any(module.training for module in cascade.modules())


def test_weights_of_a_whole_cascade_load_again(tmp_path: Path) -> None:
    members = [{"type": "IAMLUNet", "width": 4, "depth": 1}, "Upscale"]
    trained = build_enhancer({"type": "Cascade", "enhancers": members}, checkpoint=None)
    save_state_dict(trained.state_dict(), tmp_path / "both.safetensors")
    again = build_enhancer({"type": "Cascade", "enhancers": members}, tmp_path / "both.safetensors")
    assert torch.equal(enhance(dark_image(8, 8), again), enhance(dark_image(8, 8), trained))


def test_mmengine_configs_build_a_cascade() -> None:
    config = pytest.importorskip("mmengine", reason="needs the extra 'mm'").Config(
        {"model": {"type": "llie_preproc.Cascade", "enhancers": [{"type": "PSENet"}, {"type": "Upscale", "scale": 4}]}}
    )
    expected = enhance(dark_image(9, 8), Cascade([build_enhancer("PSENet"), Upscale(4)]))
    assert torch.equal(enhance(dark_image(9, 8), build_enhancer(config.model)), expected)
    assert torch.equal(enhance(dark_image(9, 8), MODELS.build(config.model)), expected)


def test_a_pipeline_takes_a_cascade() -> None:
    pytest.importorskip("mmcv", reason="needs the extra 'mm'")
    from llie_preproc.registry import TRANSFORMS

    members = [{"type": "PSENet"}, {"type": "Upscale", "scale": 2}]
    transform = TRANSFORMS.build({"type": "llie_preproc.Cascade", "enhancers": members})
    image = np.random.default_rng(0).integers(0, 90, (12, 10, 3), dtype=np.uint8)
    results = transform({"img": image, "img_shape": (12, 10), "ori_shape": (12, 10)})
    expected = enhance(image, Cascade(members), channel_order="bgr")
    assert results["img_shape"] == (24, 20)
    assert np.abs(results["img"].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("enhancers", "error", "named"),
    [
        ([], ValueError, "at least one"),
        ("PSENet", TypeError, "list, got str"),
        ({"type": "PSENet"}, TypeError, "list, got dict"),
        (["PSENet", 2], TypeError, "got int"),
        (["PSENet", "Nothing"], KeyError, "Nothing"),
        ([{"scale": 2}], TypeError, "'type'"),
        ([{"type": "PSENet", "checkpoint": "nowhere.safetensors"}], FileNotFoundError, "nowhere"),
    ],
)
def test_wrong_members_are_refused(enhancers: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        Cascade(enhancers)


@pytest.mark.parametrize(
    ("enhancers", "onnx", "compiled"),
    [
        (["ZeroDCE", "Upscale"], None, None),
        (["CLAHE", "Upscale"], "CLAHE", "CLAHE"),
        (["Upscale", "PSENet"], "PSENet: its input is padded inside the cascade", None),
        ([dict(type="SemiLLIE", width=4)], "SemiLLIE: the selective scan", None),
    ],
)
def test_refusals_are_those_of_the_members(enhancers: list, onnx: str | None, compiled: str | None) -> None:
    cascade = build_enhancer({"type": "Cascade", "enhancers": enhancers}, checkpoint=None)
    assert isinstance(cascade, Cascade)
    for reason, expected in ((cascade.onnx_refusal, onnx), (cascade.compile_refusal, compiled)):
        assert reason is None if expected is None else str(reason).startswith(expected)


# The command.


def test_the_command_runs_a_cascade_of_trained_members(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 90, (12, 10, 3), dtype=np.uint8)
    write_picture(tmp_path / "in.png", Picture(levels))
    call = [
        "enhance",
        str(tmp_path / "in.png"),
        "--out",
        str(tmp_path / "out.png"),
        "--device",
        "cpu",
        "--enhancer",
        "Cascade",
    ]
    assert main(call) == 0
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, enhance(levels, Cascade()))


@pytest.mark.parametrize("member", [ZeroDCE, lambda: Cascade([PSENet(), SCI()])])
def test_the_command_refuses_a_member_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, member: Any
) -> None:
    class Untrained(Cascade):
        def __init__(self) -> None:
            super().__init__(["PSENet", member()])

    monkeypatch.setitem(MODELS._module_dict, "Untrained", Untrained)
    write_picture(tmp_path / "in.png", Picture(np.zeros((8, 8, 3), np.uint8)))
    call = ["enhance", str(tmp_path / "in.png"), "--out", str(tmp_path / "out.png"), "--enhancer", "Untrained"]
    assert main(call) == 2
    assert "Untrained has no shipped weights" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
